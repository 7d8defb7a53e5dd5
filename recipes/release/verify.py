"""Check a release folder: who signed it, that it is whole, and that its papers agree with it.

Nothing here needs torch, the model in memory or a network: it runs where a model is received. All
that differs is told at once, and each thing by name. Without a key or a root to trust, a folder can
only be held against its own list, which whoever changed a file could have changed too; the result
says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.identity import identity_of
from privacy.errors import LedgerError, PrivacyError
from recipes import decisions
from recipes.dsse import SignatureDiffers, open_signed, parse_public_key, read_public_key
from recipes.errors import InputError, ReleaseDiffers
from recipes.files import sha256_file
from recipes.release import attestations, layout, signature
from recipes.release.signature import Trusted
from recipes.release.verdict import Verdict, read_verdict

_LINE = re.compile(r"([0-9a-f]{64})  ([\x20-\x7e]+)")
_EPSILON_TOLERANCE = 0.01
"""Relative; two versions of an accountant may round differently, and no edit is that small."""


@dataclass(frozen=True)
class Verified:
    """A release in which nothing differs."""

    name: str
    version: str | None
    model: str
    """Identity of the model."""

    outcome: str
    overrides: tuple[str, ...]
    num_files: int
    signed_by: str | None
    """Fingerprint of the key that signed; None if no signature was checked."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "overrides": list(self.overrides)}


def verify(folder: Path, trusted: Trusted | None = None) -> Verified:
    """Check a release folder offline.

    Args:
        folder: the release.
        trusted: the public key or the root certificates that a stranger trusts; without them the
            folder is held against its own list alone.

    Raises:
        InputError: if it is no release folder, or the key cannot be read.
        ReleaseDiffers: naming everything that is not as it was released.
    """
    if not (folder / layout.ABOUT).is_file() and not (folder / layout.HASHES).is_file():
        raise InputError(
            f"{folder} is not a release folder: it has no {layout.ABOUT} and no {layout.HASHES}"
        )
    if trusted is not None and trusted.key is not None:
        read_public_key(trusted.key)
    files, problems = layout.files_of(folder)
    problems += layout.misplaced(files)
    vouched: dict[str, str] | None = None
    if trusted is not None:
        try:
            vouched = signature.check_folder(folder, trusted)
        except SignatureDiffers as error:
            problems.append(f"signature: {error}")
    # what the signature vouches for was hashed just now; only without it are files hashed here
    hashes = dict(vouched or {name: sha256_file(path) for name, path in files.items()})
    problems += _list_problems(files, hashes, is_vouched=vouched is not None)
    problems += list(_papers_problems(folder, files, hashes, trusted))
    problems = list(dict.fromkeys(problems))  # a missing file is missed by more than one list
    if problems:
        shown = [*problems[:40], *([f"... and {len(problems) - 40} more"] * (len(problems) > 40))]
        raise ReleaseDiffers("\n".join([f"{folder} is not what was released:", *shown]))
    about = _read(folder, layout.ABOUT)
    verdict = read_verdict(_read(folder, layout.DECISION))
    return Verified(
        name=about["name"],
        version=about["version"],
        model=about["model"],
        outcome=verdict.outcome,
        overrides=tuple(map(str, verdict.overrides)),
        num_files=len(files),
        signed_by=about["key"] if vouched else None,
    )


def hashes_text(hashes: Mapping[str, str]) -> str:
    """Return SHA256SUMS: a line a file in the names' order, as `sha256sum` writes and reads it."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))


def _list_problems(
    files: Mapping[str, Path], hashes: Mapping[str, str], *, is_vouched: bool
) -> list[str]:
    """Compare the files with SHA256SUMS; one that cannot be read lists nothing."""
    path = files.get(layout.HASHES)
    text = "" if path is None else path.read_bytes().decode("utf-8", errors="replace")
    lines = [_LINE.fullmatch(line) for line in text.splitlines()]
    listed = {line[2]: line[1] for line in lines if line}
    problems = []
    if None in lines or hashes_text(listed) != text:
        problems.append(f"changed: {layout.HASHES} is not in its one form")
    own = {layout.HASHES, layout.SIGNATURE}
    found = files.keys() - own
    problems += [f"missing: {layout.shown(name)}" for name in sorted(listed.keys() - found)]
    problems += [f"not listed: {layout.shown(name)}" for name in sorted(found - listed.keys())]
    problems += [
        f"changed: {layout.shown(name)}"
        for name in sorted(found & listed.keys())
        if hashes.get(name) != listed[name]
    ]
    if is_vouched and hashes.keys() != files.keys() - {layout.SIGNATURE}:
        problems.append("signature: it is over other files than are here")
    return problems


def _papers_problems(
    folder: Path, files: Mapping[str, Path], hashes: Mapping[str, str], trusted: Trusted | None
) -> Iterator[str]:
    """Hold the papers against the weights and against one another."""
    papers: dict[str, Any] = {}
    for name in (layout.ABOUT, layout.DECISION, layout.MERGE, layout.REPORT, layout.RECORD):
        try:
            papers[name] = _read(folder, name)
        except (OSError, ValueError) as error:
            yield f"{name} cannot be read: {type(error).__name__}"
    if len(papers) < 5:
        return
    try:
        about = papers[layout.ABOUT]
        verdict = read_verdict(papers[layout.DECISION])
        yield from _evidence_problems(folder, papers, verdict, hashes)
        yield from _privacy_problems(folder, papers[layout.RECORD], files)
        if about["outcome"] != verdict.outcome:
            yield f"{layout.ABOUT} says {about['outcome']}, the decision {verdict.outcome}"
        if hashes.get(layout.CARD) != hashes.get(layout.HUB_CARD):
            yield f"{layout.CARD} and {layout.HUB_CARD} are not one text"
        if about["is_signed"] is not (layout.SIGNATURE in files):
            yield f"{layout.ABOUT} and {layout.SIGNATURE} disagree on whether it is signed"
        if trusted is not None:
            yield from _attestation_problems(folder, about, hashes, trusted)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"a paper is damaged: {error!r}"


def _evidence_problems(
    folder: Path, papers: Mapping[str, Any], verdict: Verdict, hashes: Mapping[str, str]
) -> Iterator[str]:
    identity = identity_of(hashes)
    for name, said in (
        (layout.ABOUT, papers[layout.ABOUT]["model"]),
        (layout.DECISION, verdict.model),
        (layout.MERGE, papers[layout.MERGE]["identity"]),
        (layout.REPORT, papers[layout.REPORT]["target"].get("merged")),
    ):
        if said != identity:
            yield f"{name} is about the model {said}, and these weights are {identity}"
    yield from decisions.differs_in_release(
        papers[layout.DECISION],
        (folder / layout.REPORT).parent,
        papers[layout.RECORD],
        candidate=identity,
        ledger=folder / layout.LEDGER if layout.LEDGER in hashes else None,
    )
    if not verdict.may_ship:
        yield f"the gate's decision is {verdict.outcome}, which does not ship"


def _privacy_problems(
    folder: Path, record: Mapping[str, Any], files: Mapping[str, Path]
) -> Iterator[str]:
    for name in (layout.LEDGER, layout.PRIVACY):
        if record["is_private"] is not (name in files):
            yield f"{layout.RECORD} and {name} disagree on whether the run was private"
            return
    if not record["is_private"]:
        return
    from privacy.ledger import verify as verify_ledger

    said = _read(folder, layout.PRIVACY)
    epsilon = said["epsilon"]["pld"]["value"]
    try:
        ledger = verify_ledger(folder / layout.LEDGER)
        spent = ledger.epsilon_spent
    except (LedgerError, PrivacyError) as error:
        yield f"{layout.LEDGER}: {error}"
        return
    if why := ledger.disagreement(record):
        yield f"{layout.LEDGER}: {why}"
    is_same = (
        said["steps"]["charged"]["value"] == ledger.steps_charged
        and said["epsilon"]["delta"]["value"] == ledger.plan.delta
        and said["unit"]["unit"]["value"] == ledger.plan.unit
        and abs(epsilon - spent) <= _EPSILON_TOLERANCE * spent
    )
    if not is_same:
        yield (
            f"{layout.PRIVACY} states epsilon {epsilon:.4g}, its account gives {spent:.4g} for "
            f"{ledger.steps_charged} steps"
        )


def _attestation_problems(
    folder: Path, about: Mapping[str, Any], hashes: Mapping[str, str], trusted: Trusted
) -> Iterator[str]:
    """Open the statements with the key that signed, and hold their subjects against the files."""
    try:
        if trusted.key is not None:
            key, pem = read_public_key(trusted.key), trusted.key.read_bytes()
        else:
            pem = signature.leaf_key(folder / layout.SIGNATURE)
            key = parse_public_key(pem, layout.SIGNATURE)
    except (InputError, KeyError, ValueError, TypeError, IndexError) as error:
        yield f"attestations: no key to check them with: {error}"
        return
    if about["key"] != signature.fingerprint(pem):
        yield f"{layout.ABOUT} names another key: {about['key']}"
    subjects = attestations.subjects(
        {name: hashes[name] for name in sorted(hashes) if layout.is_model_file(name)}
    )
    for name, kind in (
        (layout.PROVENANCE, attestations.PROVENANCE_TYPE),
        (layout.TEST_RESULT, attestations.TEST_RESULT_TYPE),
    ):
        try:
            statement = open_signed(_read(folder, name), key)
        except (OSError, ValueError) as error:
            yield f"{name} cannot be read: {type(error).__name__}"
        except SignatureDiffers as error:
            yield f"{name}: {error}"
        else:
            if statement.get("subject") != subjects or statement.get("predicateType") != kind:
                yield f"{name} is about other files, or is another kind of statement"


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())
