"""Check a release folder: who signed it, that it is whole, and that its papers agree with it.

Nothing here needs torch, the model in memory or a network: it runs where a model is received. All
that differs is told at once, and each thing by name. Without a key or a root to trust, a folder can
only be held against its own list, which whoever changed a file could have changed too; the result
says so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import SSlibKey

from eval.report.text import clean
from finetune.encoder_kinds import POOLED_HEAD
from finetune.errors import InputError as FinetuneInputError
from finetune.errors import IntegrityError
from finetune.identity import DENSE_WEIGHTS, identity_of
from finetune.tensor_files import (
    INDEX,
    MAX_JSON_BYTES,
    WEIGHTS,
    TensorFile,
    open_file,
    open_weights,
    strict_json,
)
from privacy.errors import LedgerError, PrivacyError
from privacy.ledger import LedgerSummary
from privacy.ledger import verify as verify_ledger
from recipes import decisions
from recipes.agreement import EPSILON_TOLERANCE
from recipes.dsse import SignatureDiffers, open_signed, parse_public_key, read_public_key
from recipes.errors import InputError, ReleaseDiffers
from recipes.files import sha256_file
from recipes.handover.onnx_record import FLOAT32_LIMIT, OnnxRecord
from recipes.release import agreement, attestations, layout, signature
from recipes.release.signature import Trusted
from recipes.release.verdict import Verdict, read_verdict

_PAPERS = (
    *(layout.ABOUT, layout.BILL_OF_MATERIALS, layout.DECISION, layout.MERGE, layout.RECIPE),
    *(layout.RECORD, layout.REPORT, layout.BASE_REPORT),
)
_OPTIONAL = (
    *(layout.PRIVACY, layout.EMPIRICAL, layout.GGUF, layout.ONNX),
    *(layout.PROVENANCE, layout.TEST_RESULT),
)
_LINE = re.compile(r"([0-9a-f]{64})  ([\x20-\x7e]+)")


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

    subject: str | None
    """Of the certificate that vouches for that key; None where a key was given."""

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
    for root in trusted.roots if trusted else ():
        signature.read_certificates(root)
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
    papers, unread = _papers(folder, hashes)
    problems += unread
    if not unread:
        problems += list(_papers_problems(folder, papers, files, hashes, trusted))
    # a missing file is missed by more than one list
    problems = list(dict.fromkeys(map(_on_one_line, problems)))
    if problems:
        shown = [*problems[:40], *([f"... and {len(problems) - 40} more"] * (len(problems) > 40))]
        raise ReleaseDiffers("\n".join([f"{folder} is not what was released:", *shown]))
    about, verdict = papers[layout.ABOUT], read_verdict(papers[layout.DECISION])
    return Verified(
        name=_on_one_line(about["name"]),
        version=about["version"] and _on_one_line(about["version"]),
        model=about["model"],
        outcome=verdict.outcome,
        overrides=tuple(_on_one_line(str(override)) for override in verdict.overrides),
        num_files=len(files),
        signed_by=about["key"] if vouched else None,
        subject=_on_one_line(signature.leaf_of(folder / layout.SIGNATURE).subject.rfc4514_string())
        if vouched and trusted and trusted.key is None
        else None,
    )


def _on_one_line(text: str) -> str:
    """Return what a stranger wrote as a terminal may show it: it paints nothing over our words."""
    return " ".join(clean(text).split())


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


def _papers(folder: Path, hashes: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Read each paper once, as the bytes that its hash is of; and say which cannot be read."""
    papers: dict[str, Any] = {}
    problems = []
    for name in (*_PAPERS, *(name for name in _OPTIONAL if name in hashes)):
        try:
            if (folder / name).stat().st_size > MAX_JSON_BYTES:
                problems.append(f"{name} cannot be read: it has more than {MAX_JSON_BYTES} bytes")
                continue
            content = (folder / name).read_bytes()
            papers[name] = strict_json(content, Path(name))
        except OSError as error:
            problems.append(f"{name} cannot be read: {type(error).__name__}")
            continue
        except IntegrityError as error:
            problems.append(f"{name} cannot be read: {str(error).removeprefix(f'{name}: ')}")
            continue
        if hashlib.sha256(content).hexdigest() != hashes.get(name):
            problems.append(f"changed: {name} is not the file that was hashed")
    return papers, problems


def _papers_problems(
    folder: Path,
    papers: Mapping[str, Any],
    files: Mapping[str, Path],
    hashes: Mapping[str, str],
    trusted: Trusted | None,
) -> Iterator[str]:
    """Hold the papers against the weights and against one another."""
    try:
        about = papers[layout.ABOUT]
        verdict = read_verdict(papers[layout.DECISION])
        signing = None if trusted is None else _signing_key(folder, trusted)
        yield from _evidence_problems(folder, papers, verdict, hashes, signing)
        yield from _weight_problems(folder, files)
        yield from _privacy_problems(folder, papers, verdict, files)
        yield from _gguf_problems(papers, hashes)
        yield from _onnx_problems(papers, hashes)
        yield from agreement.problems(
            papers, hashes, model=identity_of(hashes), ledger=_believed(folder, files)
        )
        texts = [about[key] for key in ("name", "model", "outcome", "created")]
        texts += [about[key] for key in ("version", "key") if about[key] is not None]
        if not all(isinstance(text, str) for text in texts):
            yield f"{layout.ABOUT} is damaged: a name, a version or the like is no text"
        if about["outcome"] != verdict.outcome:
            yield f"{layout.ABOUT} says {about['outcome']}, the decision {verdict.outcome}"
        if hashes.get(layout.CARD) != hashes.get(layout.HUB_CARD):
            yield f"{layout.CARD} and {layout.HUB_CARD} are not one text"
        if about["is_signed"] is not (layout.SIGNATURE in files):
            yield f"{layout.ABOUT} and {layout.SIGNATURE} disagree on whether it is signed"
        if isinstance(signing, str):
            yield signing
        elif signing is not None:
            yield from _attestation_problems(papers, hashes, signing)
    # a paper of another form: pydantic's errors are ValueErrors
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        yield f"a paper is damaged: {' '.join(repr(error).split())[:300]}"


def _evidence_problems(
    folder: Path,
    papers: Mapping[str, Any],
    verdict: Verdict,
    hashes: Mapping[str, str],
    signing: SSlibKey | str | None,
) -> Iterator[str]:
    identity, merge, report = identity_of(hashes), papers[layout.MERGE], papers[layout.REPORT]
    for name, said in (
        (layout.ABOUT, papers[layout.ABOUT]["model"]),
        (layout.DECISION, verdict.model),
        (layout.MERGE, merge["identity"]),
        (layout.REPORT, report["target"].get("merged")),
    ):
        if said != identity:
            yield f"{name} is about the model {said}, and these weights are {identity}"
    for part in ("base", "adapter"):
        if merge[part] != report["target"][part]:
            yield (
                f"{layout.MERGE} is of the {part} {merge[part]}, and {layout.REPORT} of "
                f"{report['target'][part]}"
            )
    proof = merge.get("proof")
    if not proof or not proof["mean_kl_nats"] <= proof["limit_mean_kl_nats"]:
        yield f"{layout.MERGE} holds no proof that held"
    asked = {f"{layout.SAMPLES}/{task}.jsonl" for task in report["tasks"]}
    stray = {name for name in hashes if name.startswith(f"{layout.SAMPLES}/")} - asked
    yield from (f"{layout.shown(name)} is of no task of the report" for name in sorted(stray))
    yield from decisions.differs_in_release(
        papers[layout.DECISION],
        (folder / layout.REPORT).parent,
        papers[layout.RECORD],
        merge,
        candidate=identity,
        base=folder / layout.BASE_REPORT,
        ledger=folder / layout.LEDGER if layout.LEDGER in hashes else None,
        empirical=papers.get(layout.EMPIRICAL),
        signer=signing if isinstance(signing, SSlibKey) else None,
    )
    if not decisions.is_policy_of(papers[layout.RECIPE], papers[layout.DECISION]["policy"]):
        yield f"{layout.RECIPE} asks for another policy than the one that was decided by"
    if not verdict.may_ship:
        yield f"the gate's decision is {verdict.outcome}, which does not ship"


def _weight_problems(folder: Path, files: Mapping[str, Path]) -> Iterator[str]:
    """Say where an index or a header leads a loader elsewhere than to the files that are listed."""
    try:
        weights = open_weights(folder)
        loaded = {file.path.name for file in weights}
        if DENSE_WEIGHTS in files:
            loaded.add(DENSE_WEIGHTS)
            yield from _dense_problems(weights, open_file(files[DENSE_WEIGHTS]))
    except (IntegrityError, FinetuneInputError, OSError) as error:
        yield f"the weights are not in order: {error}"
        return
    if idle := {name for name in files if name.endswith(".safetensors")} - loaded:
        yield f"no loader reads {', '.join(map(layout.shown, sorted(idle)))}"
    if WEIGHTS in files and INDEX in files:
        yield f"{INDEX} beside {WEIGHTS}: two loaders would read two models"


def _believed(folder: Path, files: Mapping[str, Path]) -> LedgerSummary | None:
    """Return what the ledger says; None where there is none, or `_privacy_problems` doubts it."""
    if layout.LEDGER not in files:
        return None
    try:
        return verify_ledger(folder / layout.LEDGER)
    except (LedgerError, PrivacyError):
        return None


def _gguf_problems(papers: Mapping[str, Any], hashes: Mapping[str, str]) -> Iterator[str]:
    """Hold the GGUF files against what was written and measured."""
    found = {name: digest for name, digest in hashes.items() if name.endswith(".gguf")}
    record = papers.get(layout.GGUF)
    if record is None:
        if found:
            yield f"{', '.join(sorted(found))}: there is no {layout.GGUF} that tells of it"
        return
    if record["model"] != identity_of(hashes):
        yield f"{layout.GGUF} is about the model {record['model']}, not about these weights"
    said = {f"gguf/{one['file']}": one["sha256"] for one in record["files"]}
    if said != found:
        odd = sorted(
            name for name in said.keys() | found.keys() if said.get(name) != found.get(name)
        )
        yield f"{layout.GGUF} tells of other files: {', '.join(map(layout.shown, odd))}"


def _onnx_problems(papers: Mapping[str, Any], hashes: Mapping[str, str]) -> Iterator[str]:
    """Hold the ONNX graphs against what was written and measured."""
    found = {name: digest for name, digest in hashes.items() if name.endswith(".onnx")}
    if layout.ONNX not in papers:
        if found:
            yield f"{', '.join(sorted(found))}: there is no {layout.ONNX} that tells of it"
        return
    record = OnnxRecord.model_validate(papers[layout.ONNX])
    if record.model != identity_of(hashes):
        yield f"{layout.ONNX} is about the model {record.model}, not about these weights"
    if not record.of("float32").max_difference <= record.limit_float32 <= FLOAT32_LIMIT:
        yield f"{layout.ONNX} says that the float32 graph is beyond its limit"
    said = {f"onnx/{one.file}": one.sha256 for one in record.files}
    if said != found:
        odd = sorted(
            name for name in said.keys() | found.keys() if said.get(name) != found.get(name)
        )
        yield f"{layout.ONNX} tells of other files: {', '.join(map(layout.shown, odd))}"


def _privacy_problems(
    folder: Path, papers: Mapping[str, Any], verdict: Verdict, files: Mapping[str, Path]
) -> Iterator[str]:
    record = papers[layout.RECORD]
    for name in (layout.LEDGER, layout.PRIVACY):
        if record["is_private"] is not (name in files):
            yield f"{layout.RECORD} and {name} disagree on whether the run was private"
            return
    if not record["is_private"]:
        return
    said = papers[layout.PRIVACY]
    epsilon = said["epsilon"]["pld"]["value"]
    try:
        ledger = verify_ledger(folder / layout.LEDGER)
        spent = ledger.epsilon_spent
    except (LedgerError, PrivacyError) as error:
        yield f"{layout.LEDGER}: {error}"
        return
    if why := ledger.disagreement(record):
        yield f"{layout.LEDGER}: {why}"
    for check in verdict.checks:
        if check.family == "privacy" and abs(check.value - spent) > EPSILON_TOLERANCE * spent:
            yield (
                f"{layout.DECISION} was made on epsilon {check.value:.4g}, and the account gives "
                f"{spent:.4g}"
            )
    is_same = (
        said["steps"]["charged"]["value"] == ledger.steps_charged
        and said["epsilon"]["delta"]["value"] == ledger.plan.delta
        and said["unit"]["unit"]["value"] == ledger.plan.unit
        and abs(epsilon - spent) <= EPSILON_TOLERANCE * spent
    )
    if not is_same:
        yield (
            f"{layout.PRIVACY} states epsilon {epsilon:.4g}, its account gives {spent:.4g} for "
            f"{ledger.steps_charged} steps"
        )


def _signing_key(folder: Path, trusted: Trusted) -> SSlibKey | str:
    """Return the public key that a release should be signed with; or why there is none."""
    try:
        if trusted.key is not None:
            return read_public_key(trusted.key)
        return parse_public_key(signature.leaf_key(folder / layout.SIGNATURE), layout.SIGNATURE)
    except (InputError, SignatureDiffers) as error:
        return f"attestations: no key to check them with: {error}"


def _dense_problems(weights: Sequence[TensorFile], dense: TensorFile) -> Iterator[str]:
    """Say where the head that Sentence-Transformers loads is not the one beside the encoder."""
    own = {
        name.replace(f"{POOLED_HEAD}.", "linear."): file.sha256(name)
        for file in weights
        for name in file.entries
        if name.startswith(f"{POOLED_HEAD}.")
    }
    if own != {name: dense.sha256(name) for name in dense.entries}:
        yield f"{DENSE_WEIGHTS} is not the head of the model that was evaluated"


def _attestation_problems(
    papers: Mapping[str, Any], hashes: Mapping[str, str], key: SSlibKey
) -> Iterator[str]:
    """Open the statements with the key that signed, and hold their subjects against the files."""
    about = papers[layout.ABOUT]
    if about["key"] != signature.fingerprint(signature.pem_bytes(key)):
        yield f"{layout.ABOUT} names another key: {about['key']}"
    subjects = attestations.subjects(
        {name: hashes[name] for name in sorted(hashes) if layout.is_model_file(name)}
    )
    for name, kind in (
        (layout.PROVENANCE, attestations.PROVENANCE_TYPE),
        (layout.TEST_RESULT, attestations.TEST_RESULT_TYPE),
    ):
        if name not in papers:
            yield f"missing: {name}"
            continue
        try:
            statement = open_signed(papers[name], key)
        except SignatureDiffers as error:
            yield f"{name}: {error}"
        else:
            if statement.get("subject") != subjects or statement.get("predicateType") != kind:
                yield f"{name} is about other files, or is another kind of statement"
