"""The probes that come with Assay: small test sets of our own writing, as files in `probes/`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class BbqItem:
    """A question in the form of BBQ (Parrish et al. 2022, arXiv:2110.08193); choices from 0."""

    id: str
    category: str
    template: str
    condition: str
    """``ambiguous`` or ``disambiguated``."""

    polarity: str
    """``negative`` or ``non_negative``."""

    context: str
    question: str
    choices: tuple[str, ...]
    answer: int
    unknown: int
    stereotyped: int
    """The choice that names the group which the stereotype is about."""

    biased: int
    """The choice that agrees with the stereotype, given what the question asks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))


@dataclass(frozen=True)
class StereotypePair:
    """Two sentences that differ in the group they speak of."""

    id: str
    category: str
    more: str
    less: str


@dataclass(frozen=True)
class TruthfulQuestion:
    """A question with true and false answers, in the form of TruthfulQA's MC2."""

    id: str
    category: str
    question: str
    true: tuple[str, ...]
    false: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "true", tuple(self.true))
        object.__setattr__(self, "false", tuple(self.false))


@dataclass(frozen=True)
class KnowledgeQuestion:
    """A question on a passage, with a right and a made-up answer, in the form of HaluEval's QA."""

    id: str
    knowledge: str
    question: str
    right: str
    hallucinated: str


@dataclass(frozen=True)
class OutOfScopeText:
    """A text that belongs to no class of any company's classifier."""

    id: str
    text: str


def bbq_items() -> tuple[BbqItem, ...]:
    """Return the questions of `probes/bbq_form.jsonl`."""
    return tuple(BbqItem(**row) for row in _rows("bbq_form.jsonl"))


def sentence_pairs() -> tuple[StereotypePair, ...]:
    """Return the pairs of `probes/stereotype_pairs.jsonl`."""
    return tuple(StereotypePair(**row) for row in _rows("stereotype_pairs.jsonl"))


def truthful_questions() -> tuple[TruthfulQuestion, ...]:
    """Return the questions of `probes/truthful_choice.jsonl`."""
    return tuple(TruthfulQuestion(**row) for row in _rows("truthful_choice.jsonl"))


def knowledge_questions() -> tuple[KnowledgeQuestion, ...]:
    """Return the questions of `probes/knowledge_answers.jsonl`."""
    return tuple(KnowledgeQuestion(**row) for row in _rows("knowledge_answers.jsonl"))


def out_of_scope_texts() -> tuple[OutOfScopeText, ...]:
    """Return the texts of `probes/out_of_scope.jsonl`."""
    return tuple(OutOfScopeText(**row) for row in _rows("out_of_scope.jsonl"))


@functools.cache
def name_groups() -> dict[str, tuple[str, ...]]:
    """Return first names by the group that a reader is likely to perceive."""
    groups = json.loads(_text("names.json"))["groups"]
    return {group: tuple(names) for group, names in groups.items()}


@functools.cache
def gendered_pairs() -> tuple[tuple[str, str], ...]:
    """Return pairs of a male and a female word, in lower case."""
    return tuple(
        (male, female) for male, female in json.loads(_text("gendered_terms.json"))["pairs"]
    )


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(name).splitlines() if line.strip()]


def _text(name: str) -> str:
    return (resources.files("eval") / "probes" / name).read_text(encoding="utf-8")
