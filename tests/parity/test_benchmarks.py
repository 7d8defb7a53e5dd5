"""Published sets beside lm-evaluation-harness, and beside their authors' own figures."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator

import pytest

from eval.benchmarks import load
from eval.benchmarks.bbq import UNKNOWN, read_bbq, score_answers
from eval.benchmarks.stereoset import read_stereoset
from eval.metrics.stereoset import stereoset_scores
from eval.stats import mean_of
from eval.task import Sample
from tests.eval.benchmarks.hashed import SHARED, HashedModel, answers, hashed
from tests.parity.harness_tasks import (
    SETS,
    Docs,
    bbq_set,
    harness_task,
    requests_of,
    scores_of,
)

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra lm-eval)")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # the harness's own deprecations
    pytest.mark.skipif(not SHARED.exists(), reason="needs the public data in ../shared/data"),
]

SQUAD = SHARED / "squad2" / "dev-v2.0.json"


def squad_docs() -> Docs:
    found = json.loads(SQUAD.read_text(encoding="utf-8"))
    return [
        {
            "id": row["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": row["question"],
            "answers": {"text": [answer["text"] for answer in row["answers"]]},
        }
        for article in found["data"]
        for paragraph in article["paragraphs"]
        for row in paragraph["qas"]
    ]


@pytest.fixture(autouse=True)
def _quiet_harness() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", SETS)
def test_requests_and_scores_are_those_of_the_harness(name: str) -> None:
    theirs = SETS[name]
    task = harness_task(theirs.folder, theirs.name, theirs.docs())
    model = HashedModel()
    [ours] = load(name, theirs.path)
    samples = answers(ours, model)
    assert model.asked == requests_of(task)
    found = {metric.name: metric.compute(samples) for metric in ours.metrics}
    wanted = scores_of(task, [sample.loglikelihoods for sample in samples])
    assert found.keys() & wanted.keys() == theirs.shared
    assert {key: found[key] for key in theirs.shared} == pytest.approx(
        {key: wanted[key] for key in theirs.shared}
    )


@pytest.mark.parametrize("category", ["Age", "Religion", "Sexual_orientation"])
def test_bbq_has_the_requests_and_the_scores_of_the_harness(category: str) -> None:
    theirs = bbq_set(category)
    task = harness_task(theirs.folder, theirs.name, theirs.docs()[:900])
    # hashes, pushed away from "unknown", so that there are answers that can be biased
    model = HashedModel(lambda c, t: hashed(c, t) - 15 * (t.strip() in UNKNOWN))
    [ours] = load("bbq", theirs.path, max_items=900)
    samples = answers(ours, model)
    assert model.asked == requests_of(task)
    found = {metric.name: metric.compute(samples) for metric in ours.metrics}
    wanted = scores_of(task, [sample.loglikelihoods for sample in samples])
    assert sum(0 < abs(wanted[name]) < 1 for name in theirs.shared) >= 4
    for name in theirs.shared:
        assert found[name] == pytest.approx(wanted[name], abs=1e-12), name


def test_squad_asks_what_the_harness_asks() -> None:
    task = harness_task("squadv2", "squadv2", squad_docs())
    model = HashedModel()
    [ours] = load("squad", SQUAD)
    samples = answers(ours, model)
    prompts = [i.args[0] for i in task.instances if i.request_type == "generate_until"]
    assert [sample.prompt for sample in samples] == prompts
    assert model.asked[::2] == requests_of(task)


def test_bbq_gives_the_authors_figures_on_their_models_answers() -> None:
    folder = SHARED / "bbq"
    items = {item.id: item for item in read_bbq(folder)}
    with (folder / "unifiedqa_predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = json.loads((folder / "expected_bias_scores.json").read_text())["scores"]
    num_compared = 0
    for category, column in ((c, k) for c in expected for k in ("race", "arc")):
        given = []
        for row in rows:
            if row["category"] == category:
                item = items[f"{category}/{row['example_id']}"]
                plain = [answer.lower().rstrip(".") for answer in item.answers]
                text = row[f"pred_{column}"].lower().rstrip(".")
                if text in plain:  # one answer of all matches no choice, and is left out there
                    given.append((item, plain.index(text)))
        scored = score_answers([item for item, _ in given], [answer for _, answer in given])
        samples = [
            Sample(id=item.id, prediction="", target="", scores=scores)
            for (item, _), scores in zip(given, scored, strict=True)
        ]
        for condition, flag in (("ambig", "amb"), ("disambig", "disamb")):
            wanted = expected[category][condition][f"unifiedqa_{column}"]
            among = "ambiguous" if condition == "ambig" else "disambiguated"
            bias = mean_of("lean_target", among=f"{flag}_target")(samples)
            assert 100 * bias == pytest.approx(wanted["bias_score_x100"], abs=5.1e-5)
            accuracy = mean_of("correct", among=among)(samples)
            assert accuracy == pytest.approx(wanted["accuracy"], abs=5.1e-7)
            num_compared += 1
    assert num_compared == 12


def test_stereoset_gives_the_authors_figures_on_their_models_scores() -> None:
    folder = SHARED / "stereoset"
    items = read_stereoset(folder / "dev_intrasentence_subset.json", "intrasentence")
    found = json.loads((folder / "predictions_gpt2.json").read_text())["intrasentence"]
    score_of = {row["id"]: row["score"] for row in found}
    expected = json.loads((folder / "expected_scores.json").read_text())["scores"]["gpt2"]
    assert len(expected) == 4
    for domain, wanted in expected.items():
        part = [item for item in items if domain in (item.domain, "overall_of_this_subset")]
        assert len(part) == wanted["Count"]
        pro, anti, unrelated = (
            [score_of[item.sentence_ids[item.order[k]]] for item in part] for k in range(3)
        )
        seen = stereoset_scores(
            [item.term for item in part], list(zip(pro, anti, unrelated, strict=True))
        )
        close = {"abs": 5.1e-7}  # the references have six digits
        assert 100 * seen.language_modeling == pytest.approx(wanted["LM Score"], **close)
        assert 100 * seen.stereotype == pytest.approx(wanted["SS Score"], **close)
        assert 100 * seen.icat == pytest.approx(wanted["ICAT Score"], **close)
