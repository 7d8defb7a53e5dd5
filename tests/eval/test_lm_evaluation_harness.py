"""Our engine behind lm-evaluation-harness's tasks, beside the harness's own model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.batching import quiet
from eval.errors import EvaluationError
from eval.model import LanguageModel
from eval.stats import estimate

pytest.importorskip("lm_eval", reason="lm_eval is not installed (the extra lm-eval)")
pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's own deprecations

CHOICE = """
task: {task}
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: multiple_choice
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata: {{version: 3}}
"""
REPLY = """
task: {task}
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs:
  until: ["e", "\\n"]
  max_gen_toks: 12
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
ROLLING = """
task: {task}
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list:
  - metric: word_perplexity
"""
ROWS = [
    {"question": "What is the colour of sky?", "choices": ["blue", "green, red"], "answer": 0},
    {"question": "What is the colour of grass?", "choices": ["blue", "green"], "answer": 1},
    {"question": "What is the colour of snow?", "choices": ["white", "black", "x"], "answer": 0},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name, text in (("choice", CHOICE), ("reply", REPLY), ("rolling", ROLLING)):
        (tasks / f"{name}.yaml").write_text(text.format(task=f"own_{name}", data=data))
    return tasks


def reference(causal_model: Any, tokenizer: Any, folder: Path, name: str) -> Any:
    """The task as lm-evaluation-harness runs it on its own model class."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=causal_model, tokenizer=tokenizer, batch_size=2, max_length=2048)
    tasks = TaskManager(include_path=str(folder), include_defaults=False).load([name])
    return evaluate(lm, tasks, bootstrap_iters=0, log_samples=True)


def test_choices_score_as_with_the_harnesss_own_model(
    causal_model: Any, tokenizer: Any, folder: Path
) -> None:
    from eval import lm_evaluation_harness as door

    [task] = door.load("own_choice", folder)
    assert (task.name, task.num_items) == ("lm-eval.own_choice", 3)
    assert all(str(row["question"]) in task.texts[str(i)][0] for i, row in enumerate(ROWS))
    shown: list[int] = []
    samples = task.ask(LanguageModel(causal_model, tokenizer), shown.append)
    assert sum(shown) == 3
    theirs = reference(causal_model, tokenizer, folder, "own_choice")
    for ours, other in zip(samples, theirs["samples"]["own_choice"], strict=True):
        expected = [resps[0][0] for resps in other["resps"]]
        assert ours.loglikelihoods == pytest.approx(expected, abs=1e-3)
        assert ours.scores["acc"] == other["acc"]
        # a token a byte, and a space before the choice
        choices = ROWS[int(ours.id)]["choices"]
        assert ours.num_tokens == tuple(1 + len(choice) for choice in choices)  # type: ignore[attr-defined]
        assert ours.target == ROWS[int(ours.id)]["choices"][ROWS[int(ours.id)]["answer"]]  # type: ignore[index]
    figures = {metric.name: estimate(metric, samples) for metric in task.metrics}
    for name in ("acc", "acc_norm"):
        assert figures[name].value == pytest.approx(theirs["results"]["own_choice"][f"{name},none"])
        assert figures[name].higher_is_better is True


def test_replies_are_those_of_the_harnesss_own_model(
    causal_model: Any, tokenizer: Any, folder: Path
) -> None:
    from eval import lm_evaluation_harness as door

    [task] = door.load("own_reply", folder)
    samples = task.ask(LanguageModel(causal_model, tokenizer), quiet)
    theirs = reference(causal_model, tokenizer, folder, "own_reply")["samples"]["own_reply"]
    assert [s.prediction for s in samples] == [one["resps"][0][0] for one in theirs]
    assert [s.scores["exact_match"] for s in samples] == [one["exact_match"] for one in theirs]


def test_whole_texts_are_scored_as_by_the_harnesss_own_model(
    causal_model: Any, tokenizer: Any, folder: Path
) -> None:
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    from eval.lm_evaluation_harness import EngineLM

    tasks = TaskManager(include_path=str(folder), include_defaults=False).load(["own_rolling"])
    ours = evaluate(EngineLM(LanguageModel(causal_model, tokenizer)), tasks, bootstrap_iters=0)
    theirs = reference(causal_model, tokenizer, folder, "own_rolling")
    key = "word_perplexity,none"
    assert ours["results"]["own_rolling"][key] == pytest.approx(
        theirs["results"]["own_rolling"][key], rel=1e-4
    )


def test_a_figure_that_is_no_mean_is_aggregated_as_the_harness_does(
    causal_model: Any, tokenizer: Any, folder: Path
) -> None:
    """A perplexity by word: what an item gives is two numbers, its nats and its words."""
    from eval import lm_evaluation_harness as door

    [task] = door.load("own_rolling", folder)
    samples = task.ask(LanguageModel(causal_model, tokenizer), quiet)
    theirs = reference(causal_model, tokenizer, folder, "own_rolling")["results"]["own_rolling"]
    [metric] = task.metrics
    assert (metric.name, metric.higher_is_better) == ("word_perplexity", False)
    found = estimate(metric, samples, num_resamples=50)
    assert found.value == pytest.approx(theirs["word_perplexity,none"], rel=1e-4)
    assert found.low < found.value < found.high


def test_a_folder_of_tasks_that_would_run_code_is_refused(folder: Path) -> None:
    from eval import lm_evaluation_harness as door

    with (folder / "choice.yaml").open("a") as file:
        file.write("process_docs: !function own.process\n")
    with pytest.raises(EvaluationError, match=r"choice\.yaml:\d+: !function runs Python"):
        door.load("own_choice", folder)


def test_an_unknown_task_is_named(folder: Path) -> None:
    from eval import lm_evaluation_harness as door

    with pytest.raises(EvaluationError, match="no_such_task"):
        door.load("no_such_task", folder)


def test_control_tokens_are_made_of_rendered_chats_and_not_of_texts(
    causal_model: Any, tokenizer: Any
) -> None:
    from eval.lm_evaluation_harness import EngineLM

    lm = EngineLM(LanguageModel(causal_model, tokenizer))
    end = tokenizer.eos_token_id
    assert end not in lm.tok_encode("a<|end|>b")
    assert lm.tok_encode("plain") == tokenizer("plain")["input_ids"]
    asked = [{"role": "user", "content": "a<|end|>b"}]
    rendered = lm.apply_chat_template(asked)
    assert lm.tok_encode(rendered).count(end) == 1
    context, text = lm._encode_pair(rendered, "yes<|end|>")
    assert (context.count(end), tokenizer.decode(text)) == (1, "\nyes<|end|>")  # blanks move over
    assert end not in text
    begun = [*asked, {"role": "assistant", "content": "I say"}]
    assert lm.apply_chat_template(begun, add_generation_prompt=False).endswith("I say")
