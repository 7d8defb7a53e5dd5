"""The corpus of seeded faults as a table: our recall and false alarms, and opacus alone beside it.

`pytest -s -m parity tests/parity/test_fault_corpus.py` prints the table.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privacy.check_described import check
from privacy.described import Described
from recipes import auditing
from tests.cli import write_recipe
from tests.parity import opacus_faults
from tests.privacy.test_check_described import CLEAN, FAULTS

pytestmark = [pytest.mark.parity, pytest.mark.slow]

NOT_EXPRESSIBLE = "not expressible in opacus"


def of_opacus(line: str, change: str) -> str:
    """What opacus says to a fault, where one of its set-ups fits."""
    word = {"sequential": "S1 sequential", "streaming": "S1 streaming"}
    name = next((full for part, full in word.items() if part in change), line)
    return opacus_faults.outcome(name) if name in opacus_faults.FAULTS else NOT_EXPRESSIBLE


def test_recall_and_false_alarms_with_opacus_beside_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clean = check(Described.model_validate_json(json.dumps(CLEAN)))
    alarms = [f.id for f in clean if f.status in ("fail", "warn")]
    found_by_us, found_by_opacus, lines = 0, 0, []
    for line, change, _ in FAULTS:
        run = Described.model_validate_json(json.dumps(CLEAN | change))
        raised = {f.id for f in check(run) if f.status in ("fail", "warn")}
        is_found = line in raised
        theirs = of_opacus(line, json.dumps(change))
        found_by_us += is_found
        found_by_opacus += theirs.startswith(("raises", "warns"))
        lines.append(f"{line:4} {json.dumps(change)[:52]:52} {'found' if is_found else 'MISSED':6} "
                     f"{theirs}")  # fmt: skip
    recall = found_by_us / len(FAULTS)
    with capsys.disabled():
        print("\n" + "\n".join(lines))  # noqa: T201
        print(  # noqa: T201
            f"recall {found_by_us}/{len(FAULTS)} = {recall:.3f}, false alarms {len(alarms)} of "
            f"{len(clean)} lines; opacus alone raised or warned at {found_by_opacus}"
        )
    assert recall >= 0.95
    assert alarms == []
    # what opacus is known to refuse; if it stops to, or begins to refuse more, the table is old
    refused = {name for name in opacus_faults.FAULTS
               if opacus_faults.outcome(name).startswith("raises")}  # fmt: skip
    assert {"S4", "D2", "D3", "D12"} <= refused


@pytest.mark.parametrize("kind", ["chat", "classification", "qa"])
def test_clean_recipes_raise_no_alarm(tmp_path: Path, tiny_base: Path, kind: str) -> None:
    recipe = write_recipe(tmp_path, kind, tiny_base, privacy={"epsilon": 8})
    found = auditing.audit(recipe)
    assert [f.id for f in found.findings if f.status == "fail"] == []


@pytest.mark.parametrize("kind", ["chat", "classification", "qa"])
def test_the_presets_made_private_raise_no_alarm(tmp_path: Path, kind: str) -> None:
    from recipes import starter

    path = tmp_path / "recipe.yaml"
    starter.write(kind, path)
    text = path.read_text()
    if "\nprivacy:" not in text:
        text += "\nprivacy: {epsilon: 8}\n"
    path.write_text(text)
    found = auditing.audit(path)
    assert found.is_private
    assert [f.id for f in found.findings if f.status == "fail"] == []
