"""A model that predicts: labels, answers or replies, prompted as in its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from eval.accuracy import answer_questions
from eval.cache import Cache
from eval.classifier import Classifier
from eval.errors import EvaluationError
from eval.items import Question
from eval.model import LanguageModel, output_of
from eval.task import Progress
from recipes import qa
from recipes.evaluating import as_evaluated
from recipes.predicting.output import Cell, Column
from recipes.predicting.target import PredictionTarget

Turns = Sequence[Mapping[str, str]]
Item = TypeVar("Item", contravariant=True)

Outcome = tuple[Cell, ...] | str
"""The cells of a prediction, or why there is none."""


class Predictor(Protocol[Item]):
    """Asks a model for what the recipe is about."""

    columns: tuple[Column, ...]
    num_at_once: int
    """Items that are sorted by length and asked together; what bounds the memory."""

    def problem(self, item: Item) -> str | None:
        """Return why the model cannot be asked, without the item's text; None if it can."""

    def predict(self, items: Sequence[Item], progress: Progress) -> list[Outcome]:
        """Return what the model says to each item; what could not be predicted is a reason."""


def make_predictor(target: PredictionTarget, abstain_below: float | None) -> Predictor[Any]:
    """Load the model of a target.

    Args:
        target: what is asked.
        abstain_below: a classifier gives no label where its confidence is lower.
    """
    model, tokenizer = target.load()
    recipe = target.recipe
    asked = as_evaluated(recipe, target.head, model, tokenizer, Cache(None, ""))
    if isinstance(asked, Classifier):
        return LabelPredictor(asked, abstain_below)
    if recipe.recipe == "qa":
        return AnswerPredictor(asked, qa.max_new_tokens(recipe.eval))
    return ReplyPredictor(asked, recipe.eval.max_new_tokens)


class LabelPredictor:
    """Labels with their probabilities; one label, or all that hold."""

    num_at_once = 4096

    def __init__(self, model: Classifier, abstain_below: float | None) -> None:
        self._model = model
        self._threshold = abstain_below
        label = Column("labels", "texts") if model.is_multi_label else Column("label", "text")
        self.columns: tuple[Column, ...] = (
            label,
            Column("confidence", "number"),
            Column("abstained", "flag"),
            Column("probabilities", "by-label", model.labels),
        )

    def problem(self, item: str) -> str | None:
        """Return None: a text that is too long is cut, as in training and evaluation."""

    def predict(self, items: Sequence[str], progress: Progress) -> list[Outcome]:
        """Return label, confidence, whether it abstained, and all probabilities of each text."""
        self._model.cache = Cache(None, "")  # else a million answers stay in memory
        return [self._outcome(p) for p in self._model.probabilities(items, progress)]

    def _outcome(self, p: NDArray[np.float64]) -> Outcome:
        labels = self._model.labels
        confidence = float(p.max())
        is_abstained = self._threshold is not None and confidence < self._threshold
        found: Cell
        if is_abstained:
            found = None
        elif self._model.is_multi_label:
            found = tuple(name for name, one in zip(labels, p, strict=True) if one >= 0.5)
        else:
            found = labels[int(p.argmax())]
        return found, confidence, is_abstained, tuple(p.tolist())


class _Generating:
    """What answers and replies have in common: prompts that must fit."""

    num_at_once = 256

    def __init__(self, model: LanguageModel, max_new_tokens: int) -> None:
        self._model = model
        self._max_new_tokens = max_new_tokens
        model.prompt([{"role": "user", "content": "?"}])  # raises without a chat template

    def _problem(self, messages: Turns) -> str | None:
        try:
            prompt = self._model.prompt(messages)
        except EvaluationError as error:
            return str(error)
        window = self._model.window
        needed = self._model.count_tokens(prompt) + self._max_new_tokens
        if window is not None and needed > window:
            return (
                f"too long: prompt and reply need {needed} tokens, and the model's context window "
                f"has {window}"
            )
        return None


class AnswerPredictor(_Generating):
    """Short answers from a passage, or none."""

    columns: tuple[Column, ...] = (Column("answer", "text"), Column("answered", "flag"))

    def problem(self, item: Question) -> str | None:
        """Return why a question cannot be asked, such as a passage that is too long."""
        return self._problem(_turns_of(item))

    def predict(self, items: Sequence[Question], progress: Progress) -> list[Outcome]:
        """Return the answer to each question, empty where the model says that there is none."""
        self._model.cache = Cache(None, "")
        replies = answer_questions(
            self._model, items, _turns_of, qa.NO_ANSWER, self._max_new_tokens, progress
        )
        return [(str(answer), bool(answer)) for _, answer in replies]


def _turns_of(question: Question) -> Turns:
    return cast(Turns, qa.messages(question))


class ReplyPredictor(_Generating):
    """The assistant's next turn in a chat."""

    columns: tuple[Column, ...] = (Column("reply", "text"),)

    def problem(self, item: Turns) -> str | None:
        """Return why a chat cannot be replied to, such as one that is too long."""
        return self._problem(item)

    def predict(self, items: Sequence[Turns], progress: Progress) -> list[Outcome]:
        """Return the greedy reply to each chat."""
        self._model.cache = Cache(None, "")
        prompts = [self._model.prompt(item) for item in items]
        found = self._model.generate(
            prompts, max_new_tokens=self._max_new_tokens, progress=progress
        )
        return [self._outcome(reply) for [reply] in found]

    def _outcome(self, reply: str) -> Outcome:
        if not reply and output_of(reply):
            return (
                f"no reply within {self._max_new_tokens} tokens: the model's thought does not end; "
                "raise it with --set eval.max_new_tokens=N"
            )
        return (str(reply),)
