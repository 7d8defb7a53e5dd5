"""Published sets beside lm-evaluation-harness, and beside their authors' own figures."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.benchmarks import load
from eval.benchmarks.bbq import UNKNOWN, read_bbq, score_answers
from eval.benchmarks.stereoset import read_stereoset
from eval.metrics.stereoset import stereoset_scores
from eval.stats import mean_of
from eval.task import Sample
from tests.eval.benchmarks.hashed import SHARED, HashedModel, answers, hashed

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # the harness's own deprecations
    pytest.mark.skipif(not SHARED.exists(), reason="needs the public data in ../shared/data"),
]

Docs = list[dict[str, Any]]

CROWS_PAIRS = SHARED / "crows_pairs" / "crows_pairs_anonymized.csv"
TRUTHFULQA = SHARED / "truthfulqa" / "mc_task.json"
PUBMEDQA = SHARED / "pubmedqa" / "ori_pqal.json"
SQUAD = SHARED / "squad2" / "dev-v2.0.json"


def lines(path: Path) -> Docs:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def crows_docs() -> Docs:
    with CROWS_PAIRS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # the harness takes a column without a name for the prompt, which is meant to be empty
    return [{key: value for key, value in row.items() if key} for row in rows]


def truthfulqa_docs() -> Docs:
    def hub(targets: dict[str, int]) -> dict[str, Any]:
        return {"choices": list(targets), "labels": list(targets.values())}

    found = json.loads(TRUTHFULQA.read_text(encoding="utf-8"))
    forms = ("mc1_targets", "mc2_targets")
    return [{"question": q["question"], **{f: hub(q[f]) for f in forms}} for q in found]


def pubmedqa_docs() -> Docs:
    keys = ("QUESTION", "CONTEXTS", "final_decision")
    found = json.loads(PUBMEDQA.read_text(encoding="utf-8"))
    return [{key: row[key] for key in keys} for row in found.values()]


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


def harness_task(monkeypatch: pytest.MonkeyPatch, folder: str, name: str, docs: Docs) -> Any:
    """Return a task of the harness by its own definition, on documents of ours."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra lm-eval)")
    import datasets
    from lm_eval.tasks import TaskManager

    data = datasets.Dataset.from_list(docs)
    found = datasets.DatasetDict({"train": data, "validation": data, "test": data})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: found)
    tasks = Path(lm_eval.__file__).parent / "tasks" / folder
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    task = manager.load([name])["tasks"][name]
    task.build_all_requests(rank=0, world_size=1)
    return task


def requests_of(task: Any) -> list[tuple[str, str]]:
    found = [i for i in task.instances if i.request_type == "loglikelihood"]
    return [i.args[:2] for i in sorted(found, key=lambda i: (i.doc_id, i.idx))]


def scores_of(task: Any, samples: Sequence[Sample]) -> dict[str, float]:
    """Return what the harness makes of the log-likelihoods that our samples record."""
    found: dict[str, list[Any]] = {}
    for doc, sample in zip(task.eval_docs, samples, strict=True):
        results = [(value, False) for value in sample.loglikelihoods]
        for name, value in task.process_results(doc, results).items():
            found.setdefault(name, []).append(value)
    return {name: task.aggregation()[name](values) for name, values in found.items()}


CASES = {
    "crows_pairs": ("crows_pairs", "crows_pairs_english", CROWS_PAIRS, crows_docs),
    "truthfulqa_mc1": ("truthfulqa", "truthfulqa_mc1", TRUTHFULQA, truthfulqa_docs),
    "truthfulqa_mc2": ("truthfulqa", "truthfulqa_mc2", TRUTHFULQA, truthfulqa_docs),
    "pubmedqa": ("pubmedqa", "pubmedqa", PUBMEDQA, pubmedqa_docs),
}


@pytest.mark.parametrize("name", CASES)
def test_requests_and_scores_are_those_of_the_harness(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, their_name, path, docs = CASES[name]
    task = harness_task(monkeypatch, folder, their_name, docs())
    model = HashedModel()
    [ours] = load(name, path)
    samples = answers(ours, model)
    assert model.asked == requests_of(task)
    found = {metric.name: metric.compute(samples) for metric in ours.metrics}
    wanted = scores_of(task, samples)
    shared = found.keys() & wanted.keys()
    assert shared == {"crows_pairs": {"pct_stereotype", "likelihood_diff"}}.get(name, {"acc"})
    assert {key: found[key] for key in shared} == pytest.approx(
        {key: wanted[key] for key in shared}
    )


@pytest.mark.parametrize("category", ["Age", "Religion", "Sexual_orientation"])
def test_bbq_has_the_requests_and_the_scores_of_the_harness(
    category: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = SHARED / "bbq" / f"{category}.jsonl"
    task = harness_task(monkeypatch, "bbq", "bbq", lines(path)[:900])
    # hashes, pushed away from "unknown", so that there are answers that can be biased
    model = HashedModel(lambda c, t: hashed(c, t) - 15 * (t.strip() in UNKNOWN))
    [ours] = load("bbq", path, max_items=900)
    samples = answers(ours, model)
    assert model.asked == requests_of(task)
    found = {metric.name: metric.compute(samples) for metric in ours.metrics}
    wanted = scores_of(task, samples)
    names = ("acc", "accuracy_amb", "accuracy_disamb", "amb_bias_score", "disamb_bias_score")
    assert sum(0 < abs(wanted[name]) < 1 for name in names) >= 4
    for name in names:
        assert found[name] == pytest.approx(wanted[name], abs=1e-12), name


def test_squad_asks_what_the_harness_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    task = harness_task(monkeypatch, "squadv2", "squadv2", squad_docs())
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
