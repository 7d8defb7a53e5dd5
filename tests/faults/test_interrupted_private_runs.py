"""A private run that lost steps to kills says so wherever it is described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy.ledger import Ledger, verify
from recipes import shortfall
from tests.cli import assay_here, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def story(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after the charge of its third step, and was then done to the end."""
    folder = tmp_path_factory.mktemp("interrupted")
    write_recipe(
        folder,
        "classification",
        tiny_base,
        train={"epochs": 3, "schedule": "constant"},
        privacy={"epsilon": None, "noise_multiplier": 4.0},
    )
    charge = Ledger.charge

    def charge_and_die(self: Ledger, step: int, **more: Any) -> None:
        charge(self, step, **more)
        if step == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "charge", charge_and_die)
        assert assay_here("train", "recipe.yaml", folder=folder).code == 130
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert done.code == 0, done.err
    (folder / "said").write_text(done.err)
    return folder


@pytest.fixture(scope="module")
def told(story: Path) -> str:
    """What is to be told of it."""
    summary = verify(story / "runs" / "a-run" / "ledger.jsonl")
    assert summary.steps_charged == summary.plan.steps
    lost = summary.steps_charged - len(set(summary.steps))
    assert lost >= 1
    return shortfall.in_words(summary.plan.steps - lost, summary.plan.steps)


def test_the_terminal_says_it(story: Path, told: str) -> None:
    assert told in (story / "said").read_text()


def test_the_record_holds_both_numbers(story: Path, told: str) -> None:
    training = json.loads((story / "runs" / "a-run" / "record.json").read_text())["training"]
    assert told.startswith(
        f"Only {training['num_steps']} of {training['num_planned_steps']} planned steps"
    )


def test_the_page_says_it(story: Path, told: str) -> None:
    assert told in (story / "runs" / "a-run" / "report.html").read_text()


def test_the_privacy_report_says_it(story: Path, told: str) -> None:
    folder = story / "runs" / "a-run" / "privacy"
    report = json.loads((folder / "privacy.json").read_text())
    assert told in report["in_words"]["sentences"]
    steps = {name: stated.get("value") for name, stated in report["steps"].items()}
    assert steps["not_taken"] == steps["planned"] - steps["taken"] == steps["repeated"] >= 1
    assert told in (folder / "privacy.html").read_text()


def test_the_papers_of_a_release_say_it(story: Path, told: str) -> None:
    done = assay_here("ship", "runs/a-run", "-o", "release", "--unsigned", folder=story)
    assert done.code == 0, done.err
    for name in ("README.md", "PRIVACY.md"):
        assert told in (story / "release" / name).read_text()
