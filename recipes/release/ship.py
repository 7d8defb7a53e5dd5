"""Write a release folder: what passed, with its papers, signed, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval import harness
from eval.items import LabelledText
from eval.report import Page, render_html
from eval.scores import without_text
from finetune import scratch as scratches
from finetune.room import require
from recipes import config, decisions, documents, gating, page
from recipes.domains import Domain
from recipes.dsse import read_private_key, sign
from recipes.errors import GateRefused, InputError, ReleaseDiffers
from recipes.files import sha256_file, undamaged, write_json, write_text
from recipes.handover import EvaluatedTexts, onnx_record
from recipes.release import (
    attestations,
    bill_of_materials,
    instructions,
    layout,
    model_card,
    privacy_evidence,
    scan,
    signature,
    technical_documentation,
)
from recipes.release.facts import Facts, SignedBy, gather
from recipes.release.signature import Signer, Trusted
from recipes.release.verify import hashes_text, verify
from recipes.run import Run, open_run, read_domain


def ship(
    run_folder: Path,
    out: Path,
    *,
    signer: Signer | None,
    card_file: Path | None = None,
    complete: Callable[[Path, str, EvaluatedTexts], object] = lambda *_: None,
) -> Path:
    """Write the release of a run's merged model to ``out``.

    Args:
        run_folder: a run whose merged model passed the gate.
        out: a folder that is not there yet; it appears whole or not at all.
        signer: whose key signs; None writes a release that says of itself that nobody stands
            for it.
        card_file: a file with the owner's words, instead of the recipe's ``card``.
        complete: given the folder with the model and its evidence, the run's name and the texts
            that it was evaluated on, before papers are written, listed and signed; it may add to
            the folder, and if it raises, nothing is released.

    Raises:
        GateRefused: if the gate has not passed the merged model, or an approval is missing.
        DecisionVoid: if anything that the decision binds has changed.
        InputError: if nothing is merged, ``out`` exists, the key does not fit, or the run's rows
            are not at hand to hold the release against.
        ReleaseDiffers: if the merged model is not the one that passed, or a file of the release
            would hold what must not leave.
    """
    if not (run_folder / "merged" / "merge.json").is_file():
        raise InputError(
            f"{run_folder} has no merged model; make one with: assay merge {run_folder}"
        )
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    run = open_run(run_folder)
    card = config.load_card(card_file) if card_file else run.recipe.card
    with undamaged(run_folder):
        facts = gather(run, card=card, signer=_signed_by(signer))
        _refuse_unless_passed(facts, run_folder)
        decision = decisions.require_open(
            run.folder,
            "merged",
            candidate=facts.identity,
            signer=None if signer is None else read_private_key(signer.key).public_key,
        )
        domain = _same_rows(run)
    gating.refuse_other(run, domain, "merged", decision)
    size = sum((run.folder / "merged" / name).stat().st_size for name in facts.hashes)
    require(out, size, "the release")
    with scratches.beside(out) as made:
        scratch = made.with_name(facts.name)
        scratch.mkdir()
        _copy_model(run.folder / "merged", scratch, facts)
        _write_evidence(scratch, run, facts)
        complete(scratch, facts.name, _evaluated(run, domain))
        _write_papers(scratch, run, domain, facts)
        _seal(scratch, facts, signer)
        _refuse_leaks(scratch, run, domain, signer)
        _check(scratch, signer, made.parent)
        scratch.rename(out)
    return out


def _signed_by(signer: Signer | None) -> SignedBy | None:
    if signer is None:
        return None
    pem = _public_pem(signer)
    key = read_private_key(signer.key).public_key
    if key.scheme not in ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"):
        raise InputError(
            f"a release is signed with an EC key of P-256 or P-384, and {signer.key} is for "
            f"{key.scheme}; make one with: openssl genpkey -algorithm EC -pkeyopt "
            f"ec_paramgen_curve:P-256 -out {signer.key.name}"
        )
    if signer.certificate is not None:
        leaf = signature.read_certificates(signer.certificate)[0]
        if why := signature.unfit(leaf, datetime.now(UTC)):
            raise InputError(f"{signer.certificate} may not sign a release: {why}")
    num_bits = 384 if key.scheme.endswith("384") else 256
    return SignedBy(signature.fingerprint(pem), num_bits, signer.certificate is not None)


def _public_pem(signer: Signer) -> bytes:
    return signature.pem_bytes(read_private_key(signer.key).public_key)


def _refuse_unless_passed(facts: Facts, run_folder: Path) -> None:
    verdict = facts.verdict
    if not verdict.may_ship:
        raise GateRefused(
            f"the gate has not passed the merged model of {run_folder} ({verdict.outcome}); see "
            "its decision.json"
        )
    for what, said in (
        ("the decision is about", verdict.model),
        ("the figures are about", facts.report["target"].get("merged")),
        ("the proof of the merge is about", facts.merge["identity"]),
    ):
        if said != facts.identity:
            raise ReleaseDiffers(
                f"{what} {said}, and the merged model is {facts.identity}; merge, evaluate and "
                f"gate it again with: assay merge {run_folder}"
            )


def _same_rows(run: Run) -> Domain:
    """Read the run's rows, without which nobody can tell that none of their text leaves."""
    domain = read_domain(run)
    before, now = documents.record(run.folder)["data"]["files"], domain.parts.files
    if sorted(before.values()) != sorted(now.values()):
        raise InputError(
            f"the rows have changed since the run in {run.folder}; ship it where its own rows lie, "
            "because no file of a release may hold their text"
        )
    return domain


def _evaluated(run: Run, domain: Domain) -> EvaluatedTexts:
    items = (row.item for row in domain.parts.test)
    texts = tuple(item.text for item in items if isinstance(item, LabelledText))
    return EvaluatedTexts(texts, run.recipe.train.max_length)


def _copy_model(merged: Path, scratch: Path, facts: Facts) -> None:
    for name in facts.hashes:
        (scratch / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(merged / name, scratch / name)
    write_json(scratch / layout.MERGE, facts.merge)


def _write_evidence(scratch: Path, run: Run, facts: Facts) -> None:
    """Write what later candidates are compared with and strangers can check, without any text."""
    for kind, name in (("merged", layout.REPORT), ("base", layout.BASE_REPORT)):
        (scratch / name).parent.mkdir(parents=True)
        # byte for byte, because the decision may bind its hash
        shutil.copyfile(run.folder / "eval" / kind / "report.json", scratch / name)
    shutil.copyfile(run.folder / "decision.json", scratch / layout.DECISION)
    for task in facts.report["tasks"]:
        samples = harness.read_samples(run.folder / "eval" / "merged", task)
        harness.write_samples((scratch / layout.REPORT).parent, task, without_text(samples))
    write_json(scratch / layout.RECORD, facts.record)
    write_json(scratch / layout.RECIPE, facts.recipe)
    if facts.privacy is not None:
        shutil.copyfile(run.ledger, scratch / layout.LEDGER)
    if facts.empirical is not None:
        write_json(scratch / layout.EMPIRICAL, facts.empirical)
    privacy_evidence.write(scratch, facts)


def _write_papers(scratch: Path, run: Run, domain: Domain, facts: Facts) -> None:
    card = model_card.write(facts, onnx_record.read(scratch))
    for name, text in (
        (layout.CARD, card),
        (layout.HUB_CARD, card),
        (layout.REPORT_PAGE, render_html(_page_without_text(run, domain, facts))),
        (layout.BILL_OF_MATERIALS, bill_of_materials.write(facts)),
        (layout.TECHNICAL_DOCUMENTATION, technical_documentation.write(facts)),
        (layout.INSTRUCTIONS, instructions.write(facts)),
    ):
        write_text(scratch / name, text)
    about = {
        "schema": 1,
        "name": facts.name,
        "version": facts.card.version,
        "model": facts.identity,
        "outcome": facts.verdict.outcome,
        "is_signed": facts.is_signed,
        "key": facts.signer.key if facts.signer else None,
        "created": facts.created,
    }
    write_json(scratch / layout.ABOUT, about)


def _page_without_text(run: Run, domain: Domain, facts: Facts) -> Page:
    """Return the page of the model that leaves: without a sample, with names instead of paths."""
    made = page.page_of(run, domain)
    first = [*(f"{o}." for o in facts.verdict.overrides)]
    first += [] if facts.is_signed else ["NOT SIGNED: nobody stands for this release."]
    return replace(
        made,
        summary=" ".join([*first, made.summary]),
        base_samples={},
        candidates=tuple(
            replace(one, samples={}, settings={})
            for one in made.candidates
            if one.report.target.kind == "merged"
        ),
        provenance=page.provenance_of(facts.record),
        notes=(*made.notes, "Examples are left out of a released report: they quote the data."),
    )


def _seal(scratch: Path, facts: Facts, signer: Signer | None) -> None:
    """Add what is made of everything before it: attestations, the list of hashes, the signature."""
    if signer is not None:
        key = read_private_key(signer.key)
        papers = {
            name: sha256_file(scratch / name)
            for name in (layout.RECIPE, layout.MERGE, layout.DECISION, layout.REPORT)
        }
        for name, statement in (
            (layout.PROVENANCE, attestations.provenance(facts, papers)),
            (layout.TEST_RESULT, attestations.test_result(facts, papers)),
        ):
            write_json(scratch / name, sign(statement, key))
    # of the model, the hashes that were decided on: a copy that went wrong is found by `_check`
    hashes = {name: facts.hashes.get(name) or sha256_file(p) for name, p in _files(scratch).items()}
    write_text(scratch / layout.HASHES, hashes_text(hashes))
    if signer is not None:
        signature.sign_folder(scratch, signer)
    for path in scratch.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    scratch.chmod(0o755)


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _refuse_leaks(scratch: Path, run: Run, domain: Domain, signer: Signer | None) -> None:
    betraying = scan.places(
        [run.source, run.folder, Path.cwd(), *([signer.key.parent] if signer else [])]
    )
    if found := scan.leaks(_files(scratch), betraying, texts_of(domain)):
        raise ReleaseDiffers(
            "\n".join(
                [
                    "nothing was shipped, because a release must not hold:",
                    *(f"  {one}" for one in found[:20]),
                    "If it stands in the recipe's card or in a configuration of the base, take it "
                    "out there. If it is in a paper of Assay's, this is a bug to be reported.",
                ]
            )
        )


_NO_TEXT = ("id", "label", "group", "role")
"""Fields of an item that are names: labels stand in the model's own configuration."""


def texts_of(domain: Domain) -> Iterator[str]:
    """Return every text of a run's rows: what was learned and what was asked."""
    for part in (domain.parts.train, domain.parts.validation, domain.parts.test):
        for row in part:
            yield from _texts(vars(row.item))


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for key, value in values.items():
            if key not in _NO_TEXT:
                yield from _texts(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value)


def _check(scratch: Path, signer: Signer | None, holder: Path) -> None:
    """Hold the finished folder to what a stranger will ask of it."""
    trusted = None
    if signer is not None:
        public = holder / "key.pub"
        public.write_bytes(_public_pem(signer))
        trusted = Trusted(key=public)
        if signer.certificate is not None:
            trusted = Trusted(roots=tuple(signer.chain[-1:]) or (signer.certificate,))
    verify(scratch, trusted)
