from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.accuracy import classification, question_answering, reference_replies
from eval.bias import bbq_form, stereotype_pairs
from eval.classifier import Classifier, ZeroShotClassifier
from eval.counterfactual import (
    counterfactual_labels,
    counterfactual_replies,
    draw_names,
    swap_gendered_words,
)
from eval.errors import EvaluationError
from eval.groups import group_gaps
from eval.hallucination import (
    context_gain,
    out_of_scope,
    self_consistency,
    unsupported_answers,
)
from eval.harness import evaluate, read_samples
from eval.items import Dialogue, LabelledText, Question
from eval.model import LanguageModel, Loglikelihood
from eval.probes import (
    BbqItem,
    StereotypePair,
    bbq_items,
    gendered_pairs,
    knowledge_questions,
    name_groups,
    out_of_scope_texts,
    sentence_pairs,
    truthful_questions,
)
from eval.stats import estimate
from eval.task import Sample, Target, Task
from eval.truth import knowledge_answers, truthful_choice

LABELS = ("a", "b", "c")
ROWS = [LabelledText(f"r{i}", f"She says {i} is the best.", LABELS[i % 3]) for i in range(9)]
MULTI = [
    LabelledText("m0", "none", ()),
    LabelledText("m1", "two", ("a", "c")),
    LabelledText("m2", "one", ("b",)),
]
PASSAGE = "Claims are paid within 30 days. Send form R2 to the Dunley office."
QUESTIONS = [
    Question("q0", PASSAGE, "When are claims paid?", ("30 days", "within 30 days"), "d0"),
    Question("q1", PASSAGE, "Who pays for the stamps?", (), "d0"),
    Question("q2", PASSAGE, "Which form is sent?", ("R2",), "d1"),
    Question("q3", PASSAGE, "What colour is the form?", (), "d1"),
    Question("q4", PASSAGE, "Where is it sent?", ("Dunley",), "d1"),
]
DIALOGUES = [
    Dialogue(
        f"d{i}",
        (
            {"role": "user", "content": f"Where is order {i}?"},
            {"role": "assistant", "content": "It left on Monday."},
            {"role": "user", "content": "And now?"},
            {"role": "assistant", "content": f"It is at depot {i}."},
            {"role": "user", "content": "Thanks."},
        ),
    )
    for i in range(3)
]


def quiet(done: int) -> None:
    pass


def to_messages(question: Question) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{question.context}\n{question.question}"}]


def figures(task: Task, model: Any) -> dict[str, float]:
    samples = task.ask(model, quiet)
    return {metric.name: metric.compute(samples) for metric in task.metrics}


class Oracle:
    """A model whose answers are given: class probabilities, replies, or likelihoods of texts."""

    def __init__(
        self,
        probabilities: Callable[[str], Sequence[float]] | None = None,
        replies: dict[str, str] | None = None,
        likelihood: Callable[[str, str], float] | None = None,
    ) -> None:
        self._probabilities = probabilities
        self._replies = replies or {}
        self._likelihood = likelihood

    def probabilities(self, texts: Sequence[str], progress: Any) -> Any:
        assert self._probabilities is not None
        progress(len(texts))
        return np.array([self._probabilities(text) for text in texts], dtype=np.float64)

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        return messages[-1]["content"]

    def pairs(self, messages: Any, replies: Sequence[str]) -> list[tuple[str, str]]:
        return [(self.prompt(messages), reply) for reply in replies]

    def generate(self, prompts: Sequence[str], progress: Any, **_: Any) -> list[list[str]]:
        progress(len(prompts))
        return [[self._replies.get(prompt.rpartition("\n")[2], "")] for prompt in prompts]

    def loglikelihoods(self, pairs: Any, progress: Any) -> list[Loglikelihood]:
        assert self._likelihood is not None
        progress(len(pairs))
        return [Loglikelihood(self._likelihood(*pair), len(pair[1]), False) for pair in pairs]


def test_every_task_runs_on_a_language_model_and_gives_all_its_figures(
    causal_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    tasks = [
        question_answering(
            QUESTIONS, to_messages=to_messages, no_answer="no answer", max_new_tokens=4
        ),
        unsupported_answers(
            QUESTIONS, to_messages=to_messages, no_answer="no answer", max_new_tokens=4
        ),
        context_gain(QUESTIONS, to_messages=to_messages, no_answer="no", max_new_tokens=4),
        reference_replies(DIALOGUES, max_new_tokens=4, max_generated=2),
        counterfactual_replies(DIALOGUES),
        self_consistency(DIALOGUES, max_new_tokens=4, max_items=2),
        bbq_form(bbq_items()[:8]),
        stereotype_pairs(sentence_pairs()[:6]),
        truthful_choice(truthful_questions()[:4]),
        knowledge_answers(knowledge_questions()[:4]),
    ]
    shown: dict[str, int] = {}

    def progress(name: str, num_items: int) -> Callable[[int], None]:
        shown[name] = num_items

        def moved(done: int) -> None:
            shown[name] -= done

        return moved

    model = LanguageModel(causal_model, tokenizer)
    report = evaluate(tasks, model, Target("base", "sha256:0"), tmp_path, progress=progress)
    assert [*report.tasks] == [task.name for task in tasks]
    assert set(shown.values()) == {0}, "each progress bar reaches its end, and not beyond"
    for task in tasks:
        result = report.tasks[task.name]
        assert result.metrics.keys() == {metric.name for metric in task.metrics}
        assert result.n == task.num_items
        if task.texts:
            assert [*task.texts] == [sample.id for sample in read_samples(tmp_path, task.name)]
    assert [task.name for task in tasks if task.texts] == [
        "bbq_form",
        "stereotype_pairs",
        "truthful_choice",
        "knowledge_answers",
    ]
    finite = {
        f"{name}/{metric}": estimate.value
        for name, result in report.tasks.items()
        for metric, estimate in result.metrics.items()
        if not math.isnan(estimate.value)
    }
    assert {
        "question_answering/f1",
        "unsupported_answers/unsupported_rate",
        "reference_replies/perplexity",
        "counterfactual_replies/reply_gap",
        "bbq_form/accuracy_ambiguous",
        "stereotype_pairs/stereotype_preference",
        "truthful_choice/mc2",
        "knowledge_answers/accuracy_per_token",
    } <= finite.keys()


@pytest.mark.parametrize("kind", ["classifier", "zero-shot"])
def test_every_task_runs_on_a_classifier_and_gives_all_its_figures(
    causal_model: Any, class_model: Any, tokenizer: Any, tmp_path: Path, kind: str
) -> None:
    tasks = [
        classification(ROWS, LABELS),
        counterfactual_labels(ROWS, LABELS, max_items=3),
        out_of_scope(ROWS, LABELS, out_of_scope_texts()[:8]),
    ]
    model: Any = Classifier(class_model, tokenizer, LABELS)
    if kind == "zero-shot":
        model = ZeroShotClassifier(LanguageModel(causal_model, tokenizer), LABELS, "Which letter?")
    report = evaluate(tasks, model, Target("base", "sha256:0"), tmp_path, progress=lambda *_: quiet)
    for task in tasks:
        values = report.tasks[task.name].metrics
        assert values.keys() == {metric.name for metric in task.metrics}
        assert not any(math.isnan(estimate.value) for estimate in values.values())
    assert tasks[-1].texts == {text.id: (text.text,) for text in out_of_scope_texts()[:8]}


def test_classification_figures_by_hand() -> None:
    rows = [
        LabelledText("0", "sure and right", "a"),
        LabelledText("1", "unsure and wrong", "b"),
        LabelledText("2", "right", "b"),
        LabelledText("3", "right too", "a"),
    ]
    p = {
        "sure and right": [0.9, 0.1, 0.0],
        "unsure and wrong": [0.5, 0.4, 0.1],
        "right": [0.2, 0.8, 0.0],
        "right too": [0.7, 0.3, 0.0],
    }
    found = figures(classification(rows, LABELS), Oracle(probabilities=p.__getitem__))
    assert found == pytest.approx(
        {
            "accuracy": 0.75,
            "macro_f1": (4 / 5 + 2 / 3) / 2,  # class c occurs nowhere
            "ece": (0.1 + 0.5 + 0.2 + 0.3) / 4,
            "adaptive_ece": (0.1 + 0.5 + 0.2 + 0.3) / 4,
            "overconfidence": (0.9 + 0.5 + 0.8 + 0.7 - 3) / 4,
            "nll": -math.log(0.9 * 0.4 * 0.8 * 0.7) / 4,
            "aurc": 0.25 / 4,  # the wrong one is the least sure
            "excess_aurc": 0.0,
            "brier": (0.02 + 0.25 + 0.36 + 0.01 + 0.08 + 0.18) / 4,
            "worst_class_recall": 0.5,
            "coverage_at_5_percent_risk": 0.75,
        }
    )


def test_several_labels_a_text_by_hand() -> None:
    p = {"none": [0.1, 0.6, 0.1], "two": [0.9, 0.1, 0.5], "one": [0.9, 0.2, 0.1]}
    found = figures(classification(MULTI, LABELS), Oracle(probabilities=p.__getitem__))
    # hits 2 (a and c of the second); given 4, wanted 3
    assert found == pytest.approx(
        {"micro_f1": 4 / 7, "macro_f1": (2 / 3 + 0 + 1) / 3, "exact_match_ratio": 1 / 3}
    )
    for task in (counterfactual_labels(MULTI, LABELS), out_of_scope(MULTI, LABELS)):
        values = figures(task, Oracle(probabilities=lambda text: [len(text) % 7 / 7, 0.2, 0.6]))
        assert not any(math.isnan(value) for value in values.values())


def test_rows_that_cannot_be_evaluated_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no items"):
        classification([], LABELS)
    with pytest.raises(EvaluationError, match="2 items have the id 'r0'"):
        classification([ROWS[0], ROWS[0]], LABELS)
    with pytest.raises(EvaluationError, match="'z'"):
        classification([LabelledText("0", "", "z")], LABELS)
    with pytest.raises(EvaluationError, match="one form"):
        classification([*ROWS, *MULTI], LABELS)
    model = Oracle(probabilities=lambda _: [1, 0, 0])
    model.labels = ("b", "a", "c")  # type: ignore[attr-defined]
    with pytest.raises(EvaluationError, match="another order"):
        classification(ROWS, LABELS).ask(model, quiet)
    with pytest.raises(EvaluationError, match="replies to nothing"):
        reference_replies([Dialogue("0", DIALOGUES[0].messages[:1])])


def test_a_turn_kept_as_context_is_no_reference() -> None:
    chat = DIALOGUES[0]
    assert len(chat.to_last_reply()) == 4
    assert len(replace(chat, context_only=frozenset({3})).to_last_reply()) == 2
    with pytest.raises(EvaluationError, match="replies to nothing"):
        replace(chat, context_only=frozenset({1, 3})).to_last_reply()


def test_answers_by_hand() -> None:
    replies = {
        QUESTIONS[0].question: "Within 30 days.",
        QUESTIONS[1].question: "No answer!",
        QUESTIONS[2].question: "form R2",
        QUESTIONS[3].question: "Probably green",
        QUESTIONS[4].question: "",
    }
    model = Oracle(replies=replies)
    shared: Any = {"to_messages": to_messages, "no_answer": "No answer"}
    found = figures(question_answering(QUESTIONS, **shared), model)
    assert found == pytest.approx(
        {
            "f1": (1 + 1 + 2 / 3 + 0 + 0) / 5,
            "exact_match": 2 / 5,
            "has_answer_f1": (1 + 2 / 3) / 3,
            "no_answer_f1": 1 / 2,
            "never_answer_f1": 2 / 5,
            "answered_rate": 3 / 5,
        }
    )
    found = figures(unsupported_answers(QUESTIONS, **shared), model)
    assert found == pytest.approx(
        {
            "unsupported_rate": 1 / 5,
            "answered_unanswerable_rate": 1 / 2,
            "unsupported_span_rate": 1 / 3,
            "unsupported_ngram_rate": 1 / 3,
            "unsupported_number_rate": 0,
            "unsupported_entity_rate": 0,
            "over_refusal_rate": 1 / 3,
            "abstention_error": (1 / 3 + 1 / 2) / 2,
        }
    )
    task = question_answering(QUESTIONS, **shared)
    assert {s.cluster for s in task.ask(model, quiet)} == {"d0", "d1"}
    only_answerable = figures(question_answering(QUESTIONS[::2], **shared), model)
    assert math.isnan(only_answerable["no_answer_f1"])


def test_invented_numbers_and_names_are_told_apart() -> None:
    replies = {
        QUESTIONS[0].question: "Within 45 days.",
        QUESTIONS[2].question: "R2",
        QUESTIONS[4].question: "to the Parkham office",
    }
    task = unsupported_answers(QUESTIONS[::2], to_messages=to_messages, no_answer="?")
    found = figures(task, Oracle(replies=replies))
    assert found["unsupported_span_rate"] == pytest.approx(2 / 3)
    assert found["unsupported_number_rate"] == pytest.approx(1 / 3)
    assert found["unsupported_entity_rate"] == pytest.approx(1 / 3)
    assert math.isnan(found["abstention_error"]), "nothing here should have been declined"


def test_the_gain_from_the_passage_by_hand() -> None:
    replies = {QUESTIONS[0].question: "30 days", QUESTIONS[1].question: "the sender"}
    lost = "the sender"

    def likelihood(prompt: str, text: str) -> float:
        knows = PASSAGE in prompt and text != lost
        return -(1.0 if knows else 3.0) * len(text)

    model = Oracle(replies=replies, likelihood=likelihood)
    task = context_gain(QUESTIONS, to_messages=to_messages, no_answer="?")
    assert figures(task, model) == pytest.approx(
        {"context_gain": (2.0 + 0.0) / 2, "no_gain_rate": 1 / 2, "answered_rate": 2 / 5}
    )
    samples = task.ask(model, quiet)
    assert [len(s.loglikelihoods) for s in samples] == [2, 2, 0, 0, 0]
    silent = figures(task, Oracle(likelihood=likelihood))
    assert math.isnan(silent["context_gain"])


GROUPED = [
    LabelledText(f"g{i}", f"text {i}", "ab"[i % 2], "u" if i % 4 < 2 else "v") for i in range(120)
] + [LabelledText(f"w{i}", f"more {i}", "a", "w") for i in range(29)]


def test_group_gaps_by_hand() -> None:
    task = group_gaps([*GROUPED, LabelledText("none", "no group", "a")], ("a", "b"))
    assert task.num_items == 149
    assert "u (n=60), v (n=60)" in task.note
    assert "Withheld: 1 groups of fewer than 30 rows, and 1 rows without" in task.note

    def by_group(text: str) -> list[float]:
        number = int(text.split()[-1])
        is_right = number % 4 < 2 or number % 8 < 4  # v: right half of the time, always "a" else
        is_a = number % 2 == 0 if is_right else True
        return [0.9, 0.1] if is_a else [0.2, 0.8]

    found = figures(task, Oracle(probabilities=by_group))
    null = {name: found.pop(name) for name in list(found) if name.startswith("null_")}
    assert found == pytest.approx(
        {
            "demographic_parity_difference": 0.25,
            "demographic_parity_ratio": 0.5,
            "equalized_odds_difference": 0.5,
            "equal_opportunity_difference": 0.5,
            "accuracy_gap": 0.25,
            "accuracy_u": 1.0,
            "accuracy_v": 0.75,
        }
    )
    assert 0 < null["null_demographic_parity_difference"] < 0.15
    assert 0 < null["null_equalized_odds_difference"] < 0.25
    samples = task.ask(Oracle(probabilities=by_group), quiet)
    parity = task.metrics[0]
    assert estimate(parity, samples, num_resamples=50).low > 0.05


def test_a_small_group_is_withheld_rather_than_compared() -> None:
    rows = [row for row in GROUPED if row.group != "v"]
    found = figures(group_gaps(rows, ("a", "b")), Oracle(probabilities=lambda _: [0.6, 0.4]))
    assert math.isnan(found["demographic_parity_difference"])
    assert math.isnan(found["null_demographic_parity_difference"])
    assert math.isnan(found["accuracy_gap"])
    with pytest.raises(EvaluationError, match="no items"):
        group_gaps(ROWS, LABELS)


def test_groups_are_compared_class_by_class_where_several_may_hold() -> None:
    """Group u is never given "b" with "a", which half of its rows and of v's have."""
    rows = [
        LabelledText(f"m{i}", f"text {i}", ("a", "b") if i % 4 < 2 else (), "uv"[i % 2])
        for i in range(120)
    ]

    def by_group(text: str) -> list[float]:
        number = int(text.split()[-1])
        has_both = number % 4 < 2
        return [0.5 + 0.2 * has_both - 0.1, 0.9 if has_both and number % 2 else 0.1]

    task = group_gaps(rows, ("a", "b"))
    found = figures(task, Oracle(probabilities=by_group))
    null = {name: found.pop(name) for name in list(found) if name.startswith("null_")}
    assert found == pytest.approx(
        {
            "demographic_parity_difference": 0.5,  # "b": given to nobody in u, to half of v
            "demographic_parity_ratio": 0.0,
            "equalized_odds_difference": 1.0,
            "equal_opportunity_difference": 1.0,
            "accuracy_gap": 0.5,  # all of v, and in u the half that has no class
            "accuracy_u": 0.5,
            "accuracy_v": 1.0,
        }
    )
    assert all(0 < value < 0.4 for value in null.values())
    samples = task.ask(Oracle(probabilities=by_group), quiet)
    assert samples[0].prediction == "a"
    assert samples[0].target == "a | b"
    with pytest.raises(EvaluationError, match="one form"):
        group_gaps([*rows, LabelledText("0", "x", "a", "u")], ("a", "b"))


def test_the_second_task_on_the_same_answers_asks_nothing(
    causal_model: Any, tokenizer: Any
) -> None:
    model = LanguageModel(causal_model, tokenizer)
    shared: Any = {"to_messages": to_messages, "no_answer": "?", "max_new_tokens": 4}
    first = question_answering(QUESTIONS, **shared).ask(model, quiet)
    calls: list[int] = []
    handle = causal_model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        second = unsupported_answers(QUESTIONS, **shared).ask(model, quiet)
    finally:
        handle.remove()
    assert not calls
    assert [s.prediction for s in first] == [s.prediction for s in second]


def test_replies_that_were_not_generated_are_not_scored_as_empty(
    causal_model: Any, tokenizer: Any
) -> None:
    task = reference_replies(DIALOGUES, max_new_tokens=4, max_generated=2)
    samples = task.ask(LanguageModel(causal_model, tokenizer), quiet)
    assert sum("chrf" in s.scores for s in samples) == 2
    by_name = {metric.name: estimate(metric, samples) for metric in task.metrics}
    assert (by_name["chrf"].n, by_name["perplexity"].n) == (2, 3)
    total = sum(s.scores["nats"] for s in samples) / sum(s.scores["tokens"] for s in samples)
    assert by_name["perplexity"].value == pytest.approx(math.exp(total))
    assert [s.target for s in samples] == [f"It is at depot {i}." for i in range(3)]
    assert samples[0].scores["tokens"] == len("It left on Monday.") + len("It is at depot 0.")


def bbq(number: int, condition: str, biased: int) -> BbqItem:
    is_ambiguous = condition == "ambiguous"
    return BbqItem(
        id=f"{condition}{number}", category="age", template=f"t{number}", condition=condition,
        polarity="negative", context=f"context {condition}{number}", question="who?",
        choices=("x", "y", "unknown"), answer=2 if is_ambiguous else 1 - biased, unknown=2,
        stereotyped=biased, biased=biased,
    )  # fmt: skip


def test_bbq_scores_by_hand() -> None:
    items = [bbq(i, "ambiguous", 0) for i in range(4)]
    items += [bbq(i, "disambiguated", 0) for i in range(3)]
    # ambiguous: x (biased), x (biased), y, unknown; disambiguated: y (right), y, x (biased)
    chosen = dict(zip([item.context for item in items], "xxyuyyx", strict=True))
    model = Oracle(
        likelihood=lambda prompt, text: -1.0 - (text[0] != chosen[prompt.split("\n")[0]])
    )
    task = bbq_form(items)
    lean = 2 * 2 / 3 - 1
    assert figures(task, model) == pytest.approx(
        {
            "bias_score": 0.75 * lean,
            "bias_score_ambiguous": 0.75 * lean,
            "bias_score_disambiguated": 2 * 1 / 3 - 1,
            "accuracy_ambiguous": 1 / 4,
            "accuracy_disambiguated": 2 / 3,
        }
    )
    samples = task.ask(model, quiet)
    assert [s.cluster for s in samples] == ["t0", "t1", "t2", "t3", "t0", "t1", "t2"]
    unknown = figures(task, Oracle(likelihood=lambda _, text: -float(text != "unknown")))
    assert math.isnan(unknown["bias_score"])
    tied = figures(task, Oracle(likelihood=lambda *_: -1.0))
    assert tied["bias_score_disambiguated"] == 1.0, "a tie is counted against the model"


def test_stereotype_preference_by_hand() -> None:
    pairs = [StereotypePair(str(i), "age", f"more{i}", f"less{i}") for i in range(4)]
    model = Oracle(likelihood=lambda _, text: -5.0 - (text in ("less0", "less1", "less2", "more3")))
    assert figures(stereotype_pairs(pairs), model) == pytest.approx(
        {
            "stereotype_preference": 0.5,
            "pct_stereotype": 0.75,
            "pct_stereotype_per_token": 0.75,
            "likelihood_gap": 0.2,
        }
    )


def test_only_what_the_group_changes_counts_as_bias() -> None:
    task = counterfactual_labels(ROWS, LABELS)
    fair = figures(task, Oracle(probabilities=lambda _: [0.6, 0.3, 0.1]))
    assert set(fair.values()) == {0.0}

    def by_group(text: str) -> list[float]:
        female = [n for group, ns in name_groups().items() if group.startswith("f") for n in ns]
        is_female = any(f" {name}. " in text for name in female)
        return [0.9, 0.1, 0.0] if is_female else [0.2, 0.8, 0.0]

    biased = figures(task, Oracle(probabilities=by_group))
    assert biased["noise_flip_rate"] == 0
    assert biased["excess_flip_rate"] == biased["flip_rate"] > 0.3
    assert biased["score_gap"] == pytest.approx(0.7 * biased["flip_rate"])

    def by_spelling(text: str) -> list[float]:
        return [0.9, 0.1, 0.0] if len(text) % 2 else [0.2, 0.8, 0.0]

    noisy = figures(task, Oracle(probabilities=by_spelling))
    assert noisy["noise_flip_rate"] > 0.2
    assert abs(noisy["excess_flip_rate"]) < noisy["flip_rate"]


def test_names_are_drawn_by_id_and_gender_is_swapped_where_it_occurs() -> None:
    cast = draw_names("row-7", 3)
    assert cast == draw_names("row-7", 3)
    assert len(set(cast.names)) == 6
    assert len(set(cast.groups)) == 3
    assert all(name in name_groups()[g] for name, g in zip(cast.names, cast.groups, strict=True))
    assert cast.gaps(lambda i, j: float(cast.groups[i] == cast.groups[j])) == (0.0, 1.0)
    assert swap_gendered_words("The parcel is late.") is None
    assert swap_gendered_words("HIS wife told him.") == "HER husband told her."
    for male, female in gendered_pairs():
        assert swap_gendered_words(f"A {male} thing") == f"A {female} thing"


def test_a_task_without_gendered_words_has_no_figure_for_them() -> None:
    rows = [LabelledText("0", "The parcel is late.", "a")]
    names = {metric.name for metric in counterfactual_labels(rows, LABELS).metrics}
    assert "excess_flip_rate" in names
    assert "gendered_flip_rate" not in names


def test_out_of_scope_figures_by_hand() -> None:
    rows = [LabelledText(str(i), f"in{i}", "a") for i in range(4)]
    texts = out_of_scope_texts()[:4]
    confidence = {"in0": 0.9, "in1": 0.8, "in2": 0.7, "in3": 0.6}
    confidence |= {text.text: c for text, c in zip(texts, (0.95, 0.45, 0.65, 0.4), strict=True)}

    def probabilities(text: str) -> list[float]:
        best = confidence[text]
        others = [(1 - best) / 2, (1 - best) / 2]
        return [others[0], best, others[1]] if text == "in3" else [best, *others]

    found = figures(out_of_scope(rows, LABELS, texts), Oracle(probabilities=probabilities))
    assert found == pytest.approx(
        {
            "fpr_at_95_tpr": 0.5,
            "auroc": (0 + 4 + 3 + 4) / 16,
            "confident_rate": 0.5,
            "aurc": (0 + 0 + 0 + 0.25) / 4,
        }
    )


def test_right_choices_by_hand() -> None:
    questions = truthful_questions()[:4]
    true = {text for question in questions for text in question.true}
    model = Oracle(likelihood=lambda _, text: -1.0 - 99 * (text not in true))
    assert figures(truthful_choice(questions), model) == pytest.approx({"mc1": 1, "mc2": 1})
    assert figures(truthful_choice(questions), Oracle(likelihood=lambda *_: -1.0))["mc1"] == 0
    passages = knowledge_questions()[:4]
    by_length = Oracle(likelihood=lambda _, text: -3.0 - len(text) / 10)
    found = figures(knowledge_answers(passages), by_length)
    shorter = np.mean([len(q.right) < len(q.hallucinated) for q in passages])
    longer = np.mean([len(q.right) > len(q.hallucinated) for q in passages])
    assert found == pytest.approx({"accuracy": shorter, "accuracy_per_token": longer})


def test_the_probes_are_whole() -> None:
    assert len(bbq_items()) == 96
    for item in bbq_items():
        assert len(item.choices) == 3
        assert item.answer == item.unknown or item.condition == "disambiguated"
        assert item.biased != item.unknown
    assert len(sentence_pairs()) == 96
    assert all(question.true and question.false for question in truthful_questions())
    assert all(q.right != q.hallucinated for q in knowledge_questions())
    assert len({text.id for text in out_of_scope_texts()}) == 120
    assert all(len(set(names)) >= 2 for names in name_groups().values())


def test_a_change_of_items_or_prompt_changes_the_fingerprint() -> None:
    shared: Any = {"to_messages": to_messages, "no_answer": "?"}
    prints = [
        question_answering(QUESTIONS, **shared).fingerprint,
        question_answering(QUESTIONS[:4], **shared).fingerprint,
        question_answering(QUESTIONS, **{**shared, "no_answer": "!"}).fingerprint,
        question_answering(
            QUESTIONS, to_messages=lambda q: [{"role": "user", "content": q.question}],
            no_answer="?",
        ).fingerprint,
        classification(ROWS, LABELS).fingerprint,
        classification(ROWS, LABELS[::-1]).fingerprint,
    ]  # fmt: skip
    assert len(set(prints)) == len(prints)


def test_samples_of_any_task_are_numbers_that_json_can_hold() -> None:
    model = Oracle(probabilities=lambda _: [0.5, 0.25, 0.25])
    samples: list[Sample] = counterfactual_labels(ROWS, LABELS).ask(model, quiet)
    assert all(isinstance(x, float) for s in samples for x in s.scores.values())
