"""The privacy report of a run: complete, sourced, valid, and fit to be read."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from privacy.ledger import verify
from privacy.report import FIELDS, PrivacyReport
from recipes import config
from recipes.privacy_page import gaps, render
from recipes.public_recipe import public_recipe
from tests.cli import assay_here, rows_of, write_recipe, write_rows

pytestmark = pytest.mark.slow

MARK = "Xanthippe-4711"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder with one private run, done to the end, and its report in ``privacy/``."""
    folder = tmp_path_factory.mktemp("reported")
    rows = rows_of("classification")
    for i, row in enumerate(rows):
        row |= {"text": f"{row['text']} {MARK}", "customer": f"k{i // 3}"}
    write_rows(folder / "rows.jsonl", rows)
    write_recipe(
        folder,
        "classification",
        tiny_base,
        data={"group": "customer"},
        train={"schedule": "constant"},
        privacy={
            "epsilon": None,
            "noise_multiplier": 4.0,
            "report": {"owner": "Ms Example <script>", "lawful_basis": "a contract"},
        },
    )
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert done.code in (0, 3), done.err
    done = assay_here("audit", "runs/a-run", "-o", "privacy", "--json", folder=folder)
    assert done.code == 0, done.err
    assert set(done.json()["report"]) == {"privacy.json", "privacy.schema.json", "privacy.html"}
    assert MARK not in done.out
    return folder


def test_a_private_run_writes_its_report_by_itself(story: Path, values: dict[str, Any]) -> None:
    own = json.loads((story / "runs" / "a-run" / "privacy" / "privacy.json").read_text())
    assert PrivacyReport.model_validate_json(json.dumps(own))
    # the later audit looks through more files: those of the first report
    seen, again = (
        one | {"made": "", "checklist": [(c["id"], c["status"]) for c in one["checklist"]]}
        for one in (own, values)
    )
    assert seen == again
    assert (story / "runs" / "a-run" / "privacy" / "privacy.html").is_file()


@pytest.fixture(scope="module")
def values(story: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((story / "privacy" / "privacy.json").read_text())
    return found


def test_the_file_holds_to_its_schema_and_to_the_model(story: Path, values: dict[str, Any]) -> None:
    made = json.loads((story / "privacy" / "privacy.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(made)
    jsonschema.validate(values, made)
    PrivacyReport.model_validate_json(json.dumps(values))
    broken = values | {"epsilon": values["epsilon"] | {"pld": {"value": 3.0}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, made)


def test_figures_are_those_of_the_ledger(story: Path, values: dict[str, Any]) -> None:
    ledger = verify(story / "runs" / "a-run" / "ledger.jsonl")
    assert values["epsilon"]["pld"]["value"] == ledger.epsilon_spent
    assert values["mechanism"]["noise_multiplier"] == {
        "value": 4.0,
        "source": "ledger.jsonl, line 1: plan.noise_multiplier",
    }
    assert values["steps"]["ledger_head"]["value"] == ledger.head
    assert values["unit"]["largest_num_rows"]["value"] == 3
    [group] = values["user_level"]["groups"]
    assert (group["size"], group["is_observed"]) == (3, True)
    assert group["epsilon"]["value"] > values["epsilon"]["pld"]["value"]


def test_every_key_that_a_source_names_in_a_json_file_is_there(
    story: Path, values: dict[str, Any]
) -> None:
    record = json.loads((story / "runs" / "a-run" / "record.json").read_text())
    sources = set(re.findall(r'"source": "(record\.json: [^"]+)"', json.dumps(values)))
    assert len(sources) > 8
    for source in sources:
        found = record
        for key in source.removeprefix("record.json: ").partition(",")[0].split("."):
            assert key in found, source
            found = found[key]


def test_what_people_did_not_say_is_to_be_completed_and_never_made_up(
    values: dict[str, Any],
) -> None:
    assert values["approval"]["owner"]["source"] == "resolved.yaml: privacy.report.owner"
    assert values["approval"]["approver"]["to_be_completed_by"]
    assert "value" not in values["approval"]["approver"]
    assert values["data"]["lawful_basis"]["value"] == "a contract"
    assert values["canary_audit"]["epsilon_lower"]["missing"].startswith("no empirical audit")
    report = PrivacyReport.model_validate_json(json.dumps(values))
    missing = " ".join(what for _, what, _ in gaps(report))
    assert "who approves" in missing
    assert "who answers for the model" not in missing


def test_the_word_that_no_report_may_use_is_refused(values: dict[str, Any]) -> None:
    said = values | {"not_protected": ["This model is GDPR-Compliant."]}
    with pytest.raises(ValueError, match="supplies evidence"):
        PrivacyReport.model_validate_json(json.dumps(said))


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))


def test_the_page_is_whole_and_can_be_read_aloud(story: Path) -> None:
    text = (story / "privacy" / "privacy.html").read_text()
    page = Page()
    page.feed(text)
    assert page.levels[0] == 1
    assert all(b <= a + 1 for a, b in zip(page.levels, page.levels[1:], strict=False))
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "iframe", "object")]
    heads = [attrs for tag, attrs in page.tags if tag == "th"]
    assert heads
    assert all(attrs.get("scope") in ("row", "col") for attrs in heads)
    tables = [tag for tag, _ in page.tags if tag in ("table", "caption")]
    assert tables.count("table") == tables.count("caption")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {f"f-{key}" for key, _ in FIELDS} <= set(ids)
    targets = {str(a["href"])[1:] for t, a in page.tags if t == "a" and a.get("href")}
    assert targets <= set(ids)
    assert "Ms Example &lt;script&gt;" in text
    [policy] = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in str(policy)
    assert MARK not in text
    assert "compliant" not in text.casefold()


def test_the_same_report_gives_the_same_page(values: dict[str, Any]) -> None:
    report = PrivacyReport.model_validate_json(json.dumps(values))
    assert render(report) == render(report)


def test_a_release_is_audited_and_reported_too(story: Path, tmp_path: Path) -> None:
    run, release = story / "runs" / "a-run", tmp_path / "release"
    (release / "evidence").mkdir(parents=True)
    for name in ("ledger.jsonl", "record.json"):
        shutil.copy(run / name, release / "evidence" / name)
    shutil.copy(run / "decision.json", release / "decision.json")
    done = assay_here("audit", release, "-o", tmp_path / "out", "--json", folder=tmp_path)
    assert done.code == 0, done.err
    found = done.json()
    assert (found["kind"], found["num_failed"]) == ("release", 0)
    report = json.loads((tmp_path / "out" / "privacy.json").read_text())
    assert report["target"] == "release"
    assert report["utility"]["metrics"][0]["value"]["source"].startswith("decision.json: checks")
    source = report["mechanism"]["sample_rate"]["source"]
    assert source == "evidence/ledger.jsonl, line 1: plan.sample_rate"
    told = {f["id"]: f["status"] for f in found["findings"]}
    settings = public_recipe(config.load(run / "resolved.yaml"))
    (release / "evidence" / "recipe.json").write_text(json.dumps(settings))
    found = assay_here("audit", release, "--json", folder=tmp_path).json()
    now = {f["id"]: f["status"] for f in found["findings"]}
    assert found["num_failed"] == 0, found
    assert [*now.values()].count("not_checked") < [*told.values()].count("not_checked")
    settings["train"]["class_weights"] = "balanced"
    (release / "evidence" / "recipe.json").write_text(json.dumps(settings))
    found = assay_here("audit", release, "--json", folder=tmp_path).json()
    assert found["num_failed"] == 1, found
    (release / "evidence" / "recipe.json").unlink()
    (release / "evidence" / "samples").mkdir()
    scores = release / "evidence" / "samples" / "x.jsonl"
    scores.write_text('{"id": "ab12", "scores": {"correct": 1.0}, "prompt": ""}\n')
    assert assay_here("audit", release, "--json", folder=tmp_path).json()["num_failed"] == 0
    scores.write_text('{"id": "c7", "scores": {"correct": 1.0}, "prompt": "my card"}\n')
    found = assay_here("audit", release, "--json", folder=tmp_path).json()
    assert [f["id"] for f in found["findings"] if f["status"] == "fail"] == ["L9"]
    (release / "evidence" / "ledger.jsonl").unlink()
    assert assay_here("audit", release, folder=tmp_path).code == 5


def test_a_recipe_is_audited_before_it_runs_and_has_no_report(story: Path) -> None:
    done = assay_here("audit", "recipe.yaml", "--json", folder=story)
    assert done.code == 0, done.err
    found = {f["id"]: f for f in done.json()["findings"]}
    assert found["A1"]["status"] == "not_applicable"
    assert "customer with the most rows has 3" in found["U4"]["evidence"]
    refused = assay_here("audit", "recipe.yaml", "-o", "x", folder=story)
    assert refused.code == 2
    assert "no privacy report" in refused.said
