"""Tasks of lm-evaluation-harness by their own definitions, on the data beside the checkout."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.eval.benchmarks.hashed import SHARED

Docs = list[dict[str, Any]]

CROWS_PAIRS = SHARED / "crows_pairs" / "crows_pairs_anonymized.csv"
TRUTHFULQA = SHARED / "truthfulqa" / "mc_task.json"
PUBMEDQA = SHARED / "pubmedqa" / "ori_pqal.json"
HALUEVAL = SHARED / "halueval" / "qa_data.json"

HALUEVAL_TASK = r"""
task: halueval_two_way
dataset_path: json
test_split: test
output_type: multiple_choice
doc_to_text: "Knowledge: {{knowledge}}\nQuestion: {{question}}\nAnswer:"
doc_to_choice: "{{[right_answer, hallucinated_answer]}}"
doc_to_target: 0
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1}
"""
"""The harness has no such task: this is ours in its own language."""


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


@dataclass(frozen=True)
class Harnessed:
    """A set of ours, and the harness's task on the same documents."""

    path: Path
    folder: str
    """Of its task among the harness's; empty for `HALUEVAL_TASK`."""

    name: str
    docs: Callable[[], Docs]
    shared: frozenset[str] = frozenset({"acc"})
    """The figures that both report, by one name."""


SETS = {
    "crows_pairs": Harnessed(
        CROWS_PAIRS,
        "crows_pairs",
        "crows_pairs_english",
        crows_docs,
        frozenset({"pct_stereotype", "likelihood_diff"}),
    ),
    "truthfulqa_mc1": Harnessed(TRUTHFULQA, "truthfulqa", "truthfulqa_mc1", truthfulqa_docs),
    "truthfulqa_mc2": Harnessed(TRUTHFULQA, "truthfulqa", "truthfulqa_mc2", truthfulqa_docs),
    "pubmedqa": Harnessed(PUBMEDQA, "pubmedqa", "pubmedqa", pubmedqa_docs),
    "halueval": Harnessed(
        HALUEVAL, "", "halueval_two_way", lambda: lines(HALUEVAL), frozenset({"acc", "acc_norm"})
    ),
}

BBQ_FIGURES = frozenset(
    {"acc", "accuracy_amb", "accuracy_disamb", "amb_bias_score", "disamb_bias_score"}
)


def bbq_set(category: str) -> Harnessed:
    """Return a category of BBQ, 12-way."""
    path = SHARED / "bbq" / f"{category}.jsonl"
    return Harnessed(path, "bbq", "bbq", lambda: lines(path), BBQ_FIGURES)


def harness_task(folder: str, name: str, docs: Docs) -> Any:
    """Return a task of the harness by its own definition, on documents of ours.

    Args:
        folder: among the task folders of the harness; empty for `HALUEVAL_TASK`.
        name: of the task.
        docs: as the task's own data set would give them.
    """
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager

    data = datasets.Dataset.from_list(docs)
    found = datasets.DatasetDict({"train": data, "validation": data, "test": data})
    with tempfile.TemporaryDirectory() as own:
        (Path(own) / "task.yaml").write_text(HALUEVAL_TASK)
        tasks = Path(lm_eval.__file__).parent / "tasks" / folder if folder else Path(own)
        with mock.patch.object(datasets, "load_dataset", return_value=found):
            manager = TaskManager(include_path=str(tasks), include_defaults=False)
            task = manager.load([name])["tasks"][name]
    task.build_all_requests(rank=0, world_size=1)
    return task


def requests_of(task: Any) -> list[tuple[str, str]]:
    """Return what a task of the harness asks, by document and choice."""
    found = [i for i in task.instances if i.request_type == "loglikelihood"]
    return [i.args[:2] for i in sorted(found, key=lambda i: (i.doc_id, i.idx))]


def scores_of(task: Any, values: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return what the harness makes of the log-likelihoods of each document's choices."""
    found: dict[str, list[Any]] = {}
    for doc, row in zip(task.eval_docs, values, strict=True):
        results = [(value, False) for value in row]
        for name, value in task.process_results(doc, results).items():
            found.setdefault(name, []).append(value)
    return {name: task.aggregation()[name](values) for name, values in found.items()}
