"""What the builder says under its signature: how the model was made, and what the gate found.

Two in-toto statements (v1) about the same files: SLSA provenance v1, and test-result v0.1. A model
that is built on somebody's own machine is SLSA Build level 1: the provenance exists, and nobody but
the signer vouches for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recipes.release.layout import DECISION, MERGE, RECIPE, REPORT
from recipes.release.verdict import PASS

if TYPE_CHECKING:  # reading a run needs torch, and checking a statement must not
    from recipes.release.facts import Facts

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
FOLDER_DIGEST = "assayFolderSha256"
"""Digest of a checkpoint folder: SHA-256 of its lines ``NAME SHA256`` (finetune.identity)."""


def subjects(hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the model's files as the subjects of a statement."""
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in hashes.items()]


def provenance(facts: Facts, papers: Mapping[str, str]) -> dict[str, Any]:
    """Return the SLSA provenance of the merged model.

    Args:
        facts: of the run.
        papers: hex SHA-256 of the release's papers, by name.
    """
    record = facts.record
    return {
        "_type": STATEMENT,
        "subject": subjects(facts.hashes),
        "predicateType": PROVENANCE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:assay:train-evaluate-merge:v1",
                "externalParameters": {
                    "recipe": {
                        "name": RECIPE,
                        "digest": {"sha256": papers[RECIPE]},
                    },
                    "merged_into": facts.merge["into"],
                },
                "internalParameters": {"seed": record["seed"]},
                "resolvedDependencies": [
                    _folder("base", record["base"]["checkpoint"], record["base"]["identity"]),
                    _folder("adapter", f"{facts.name}/adapter", facts.merge["adapter"]),
                    *(
                        {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
                        for name, digest in record["data"]["files"].items()
                    ),
                ],
            },
            "runDetails": {
                "builder": {"id": "urn:assay:local-build", "version": record["versions"]},
                "metadata": {
                    "startedOn": record["started"],
                    "finishedOn": record.get("finished", facts.created),
                },
                "byproducts": [
                    {"name": MERGE, "digest": {"sha256": papers[MERGE]}},
                ],
            },
        },
    }


def test_result(facts: Facts, papers: Mapping[str, str]) -> dict[str, Any]:
    """Return what the gate found, rule by rule; a pass by override is a warning."""
    checks = facts.verdict.checks
    overridden = "warnedTests" if facts.verdict.outcome != PASS else "failedTests"
    missed = [check.rule for check in checks if not check.passed]
    return {
        "_type": STATEMENT,
        "subject": subjects(facts.hashes),
        "predicateType": TEST_RESULT_TYPE,
        "predicate": {
            "result": "PASSED" if facts.verdict.outcome == PASS else "WARNED",
            "configuration": [
                {"name": name, "digest": {"sha256": papers[name]}}
                for name in (RECIPE, DECISION, REPORT)
            ],
            "passedTests": [check.rule for check in checks if check.passed],
            **({overridden: missed} if missed else {}),
        },
    }


def _folder(what: str, name: str, identity: str) -> dict[str, Any]:
    return {
        "name": f"{what}: {name}",
        "digest": {FOLDER_DIGEST: identity.removeprefix("sha256:")},
    }
