"""Hold the papers of a release against one another: what several of them name is one thing.

`recipes.decisions.differs_in_release` looks at what the decision binds, and this at what it was
made on. A decision that was made on the figures of another base binds these figures just as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eval.task import Report
from privacy.ledger import LedgerSummary
from recipes import agreement
from recipes.agreement import differing
from recipes.release import layout


def problems(
    papers: Mapping[str, Any],
    hashes: Mapping[str, str],
    *,
    model: str,
    ledger: LedgerSummary | None,
) -> Iterator[str]:
    """Yield a sentence for each thing of which two papers say different things.

    Args:
        papers: parsed, by name.
        hashes: hex SHA-256 of every file, by name.
        model: identity of the model, from its files.
        ledger: of a private run, if it can be believed.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: if a paper is of another form.
    """
    record, merge, recipe = (papers[n] for n in (layout.RECORD, layout.MERGE, layout.RECIPE))
    targets = {
        name: Report.from_json(papers[name]).target for name in (layout.REPORT, layout.BASE_REPORT)
    }
    training, bill = record.get("training") or {}, _bill(papers[layout.BILL_OF_MATERIALS])
    yield from agreement.of_recipe(record, recipe, layout.RECORD, layout.RECIPE)
    yield from differing(
        "base",
        {
            layout.RECORD: record["base"]["identity"],
            layout.MERGE: merge["base"],
            **{name: target.base for name, target in targets.items()},
            layout.BILL_OF_MATERIALS: bill.get("base"),
        },
    )
    yield from differing(
        "adapter",
        {
            layout.RECORD: training.get("adapter"),
            layout.MERGE: merge["adapter"],
            layout.REPORT: targets[layout.REPORT].adapter,
            layout.BILL_OF_MATERIALS: bill.get("adapter"),
        },
    )
    yield from differing("model", {"the weights": model, layout.BILL_OF_MATERIALS: bill["model"]})
    said = {layout.ABOUT: papers[layout.ABOUT]["name"], layout.BILL_OF_MATERIALS: bill["name"]}
    yield from differing("name", {layout.RECORD: record["name"], **said})
    said = {
        layout.ABOUT: papers[layout.ABOUT]["version"],
        layout.BILL_OF_MATERIALS: bill["version"],
    }
    yield from differing("version", {name: one or "none" for name, one in said.items()})
    for name, kind in ((layout.REPORT, "merged"), (layout.BASE_REPORT, "base")):
        yield from agreement.of_kind(targets[name], kind, name)
        quantization = record.get("quantization")
        yield from agreement.of_quantization(targets[name], quantization, name, layout.RECORD)
    yield from _of_files(papers, hashes, bill)
    if layout.EMPIRICAL in papers:
        account = None
        if ledger is not None:
            account = agreement.Account(ledger.epsilon_spent, ledger.plan.delta, ledger.canaries)
        files = layout.EMPIRICAL, layout.RECORD
        yield from agreement.of_empirical(papers[layout.EMPIRICAL], record, account, files)


def _bill(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the bill of materials says of the things that other papers name too."""
    component = values["metadata"]["component"]
    properties = {one["name"]: one["value"] for one in component["properties"]}
    return {
        "name": component["name"],
        "version": component.get("version"),
        "model": properties.get("assay:identity"),
        "adapter": properties.get("assay:adapter"),
        "base": properties.get("assay:base"),
        "files": {one["name"]: one["hashes"][0]["content"] for one in component["components"]},
        "data": sorted(
            one["hashes"][0]["content"]
            for one in values["components"]
            if one["bom-ref"].startswith("data:")
        ),
    }


def _of_files(
    papers: Mapping[str, Any], hashes: Mapping[str, str], bill: Mapping[str, Any]
) -> Iterator[str]:
    """Hold the lists of the model's files and of the rows' files against what is there."""
    files = {name: digest for name, digest in hashes.items() if layout.is_model_file(name)}
    for document, listed in (
        (layout.BILL_OF_MATERIALS, bill["files"]),
        (layout.MERGE, _hashes_of_merge(papers[layout.MERGE], files)),
    ):
        for name in sorted(files.keys() | listed.keys()):
            said = {"the files": files.get(name, "none"), document: listed.get(name, "none")}
            yield from differing(layout.shown(name), said)
    of_rows = papers[layout.RECORD]["data"]["files"].values()
    rows = sorted(digest.removeprefix("sha256:") for digest in of_rows)
    said = {layout.RECORD: ", ".join(rows), layout.BILL_OF_MATERIALS: ", ".join(bill["data"])}
    yield from differing("files of the rows", said)


def _hashes_of_merge(merge: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, str]:
    """Return the files as a merge wrote them: the weights; of the others it keeps no hash."""
    written = {name: one["sha256"] for name, one in merge.get("files", {}).items()}
    return {**files, **written} if written else dict(files)
