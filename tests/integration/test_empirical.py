"""The empirical audit end to end: canaries are planted, trained on, opened and attacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli import Done, assay_here, rows_of, write_recipe, write_rows

pytestmark = pytest.mark.slow

MARK = "Xanthippe-4711"


def trained(folder: Path, kind: str, base: Path, name: str, **sections: Any) -> Done:
    data = {"train": "rows.jsonl", "test_fraction": 0.3, "canaries": 60}
    train = {"epochs": 8, "batch_size": 8, "learning_rate": 1e-2, "validation_fraction": 0.0}
    train |= {"max_length": 512, "num_threads": 1, "schedule": "constant"}
    sections = {"name": name, "data": data, "train": train | sections.pop("train", {}), **sections}
    recipe = write_recipe(folder, kind, base, **sections)
    done = assay_here("train", recipe.name, folder=folder)
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Path, Done]:
    """A plain run and its private twin, audited side by side."""
    folder = tmp_path_factory.mktemp("audited")
    rows = rows_of("chat")
    for row in rows:
        row["messages"][0]["content"] += f" {MARK}"
    write_rows(folder / "rows.jsonl", rows)
    trained(folder, "chat", tiny_base, "plain")
    trained(folder, "chat", tiny_base, "private", privacy={"epsilon": 0.5})
    done = assay_here("audit", "runs/private", "runs/plain", "--empirical", "--json", folder=folder)
    assert done.code == 0, done.err
    return folder, done


def registered(result: dict[str, Any]) -> dict[str, Any]:
    canaries = result["canaries"]
    [attack] = [a for a in canaries["attacks"] if a["statistic"] == canaries["statistic"]]
    return dict(attack["auc"])


def test_the_attack_finds_the_canaries_of_a_plain_run_and_not_those_of_a_private_one(
    audited: tuple[Path, Done],
) -> None:
    private, plain = audited[1].json()
    assert registered(plain)["low"] > 0.8
    bound = plain["canaries"]["one_run"]
    assert 1.0 < bound["epsilon_lower"] <= bound["power"]["epsilon_at_most"]
    assert plain["verdict"] == "no claim"
    near_chance = registered(private)
    assert near_chance["low"] < 0.6
    assert near_chance["value"] < 0.75
    one = private["canaries"]["one_run"]
    assert one["epsilon_claimed"] == pytest.approx(0.5, abs=0.01)
    assert one["epsilon_lower"] <= 0.5
    assert one["p_value"] > 0.05
    assert one["power"]["median"] is not None
    assert private["verdict"] == "not refuted"
    assert "finds the canaries of the plain twin plain" in private["positive_control"]
    for result in (private, plain):
        control = result["canaries"]["never_against_never"]
        assert control["low"] <= 0.5 <= control["high"]
        assert {a["statistic"] for a in result["rows"]["attacks"]} == {"loss", "min-k", "reference"}


def test_results_are_kept_in_the_runs_and_hold_no_text_of_a_row(
    audited: tuple[Path, Done],
) -> None:
    folder, done = audited
    for result in done.json():
        kept = json.loads((folder / result["run"] / "empirical.json").read_text())
        assert kept == result
    assert MARK not in done.out + done.err
    shown = assay_here("audit", "runs/plain", "--empirical", folder=folder)
    assert shown.code == 0, shown.err
    assert MARK not in shown.out + shown.err
    assert "power: at most" in shown.out


def test_the_canaries_are_declared_and_sealed_before_training(audited: tuple[Path, Done]) -> None:
    folder, done = audited
    header = json.loads((folder / "runs/private/ledger.jsonl").read_text().splitlines()[0])
    record = json.loads((folder / "runs/private/record.json").read_text())
    assert header["canaries"] == record["canaries"]["commitment"]
    assert done.json()[0]["canaries"]["commitment"] == header["canaries"]
    assert record["canaries"]["num"] == 60
    # 16 rows or so and 60 canaries, in or blank: what the noise was found for
    assert header["plan"]["num_examples"] == record["rows"]["train"] + 60


def test_edited_coins_and_edited_rows_are_found(audited: tuple[Path, Done], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(audited[0], folder)
    for name in ("plain", "private"):  # their source is still the folder they were trained in
        record = json.loads((folder / f"runs/{name}/record.json").read_text())
        record["source"] = str(folder)
        (folder / f"runs/{name}/record.json").write_text(json.dumps(record))
    sealed = folder / "runs/plain/canaries.json"
    text = sealed.read_text()
    sealed.write_text(text.replace('"is_in":false', '"is_in":true', 1))
    done = assay_here("audit", "runs/plain", "--empirical", folder=folder)
    assert done.code == 5
    assert "not those that were committed to" in done.said
    sealed.write_text(text)
    rows = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").write_text(rows.replace("card", "cord"))
    done = assay_here("audit", "runs/private", "--empirical", folder=folder)
    assert done.code == 2
    assert "the rows have changed" in done.said


def test_a_classifier_is_attacked_by_loss_and_confidence(tmp_path: Path, tiny_base: Path) -> None:
    trained(tmp_path, "classification", tiny_base, "classes", train={"epochs": 25})
    done = assay_here("audit", "runs/classes", "--empirical", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    [result] = done.json()
    assert {a["statistic"] for a in result["canaries"]["attacks"]} == {"loss", "confidence"}
    assert registered(result)["low"] > 0.5  # labels that nothing but memory can tell
    assert result["canaries"]["void"] == []


def test_an_ordinary_run_is_described_without_a_bound(tmp_path: Path, tiny_base: Path) -> None:
    plain = {"train": "rows.jsonl", "test_fraction": 0.3}
    trained(tmp_path, "qa", tiny_base, "ordinary", data=plain, train={"epochs": 1})
    done = assay_here("audit", "runs/ordinary", "--empirical", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    [result] = done.json()
    assert result["canaries"] is None
    assert result["verdict"] == "no canaries"
    assert (result["rows"]["attacks"][0]["auc"]["num_members"]) > 15
    assert not (tmp_path / "runs/ordinary/canaries.json").exists()


def test_several_runs_without_empirical_are_a_mistake(tmp_path: Path) -> None:
    for arguments in (("runs/a", "runs/b"), ("--empirical",)):
        done = assay_here("audit", *arguments, folder=tmp_path)
        assert done.code == 2
        assert "--empirical" in done.said
