"""Rows as tokens: which do not fit, and how lengths are summarized."""

from __future__ import annotations

import multiprocessing
from typing import cast

import pytest

from finetune.encoding import Example
from finetune.errors import InputError
from recipes.check.lengths import find_unfit, measure, summarize
from recipes.data import catalog
from recipes.data.dataset import DataSplit
from recipes.data.findings import Finding, FindingKind, Findings
from recipes.data.split import DataRow
from recipes.domains import Domain

ROW = DataRow("r1", "a.jsonl:2", "secret", "key", "key", "", None, "digest")


@pytest.mark.parametrize(
    ("example", "is_test", "kind"),
    [
        (Example("r1", (1, 2, 3), (False, True, True), num_cut=4), False, catalog.ROW_TOO_LONG),
        (Example("r1", (1, 2, 3), (False, True, True), num_cut=4), True, catalog.TEST_ROW_TOO_LONG),
        (Example("r1", (1, 2), (False, True), has_stop=False), False, catalog.NO_STOP_TOKEN),
        (Example("r1", (1, 2), (False, False)), False, catalog.NOTHING_LEARNED),
    ],
)
def test_a_row_that_does_not_fit_is_a_finding_with_its_place_and_id(
    example: Example, is_test: bool, kind: FindingKind
) -> None:
    findings = Findings()
    find_unfit(ROW, example, findings, max_length=3, is_test=is_test)
    [one] = findings.all()
    assert one.kind == kind
    assert (one.occurrences[0].place, one.occurrences[0].row) == ("a.jsonl:2", "r1")
    if example.num_cut:
        assert one.occurrences[0].detail == "at least 7 tokens, 4 cut at 3"


@pytest.mark.parametrize("is_test", [False, True])
def test_a_row_with_control_strings_is_a_finding_that_names_them(is_test: bool) -> None:
    findings = Findings()
    example = Example("r1", (1, 2), (False, True), control_strings=("<|a|>", "<|b|>"))
    find_unfit(ROW, example, findings, max_length=3, is_test=is_test)
    [one] = findings.all()
    assert (one.kind, one.kind.severity) == (catalog.CONTROL_TOKENS, "warning")
    assert one.occurrences[0].detail == "holds <|a|>, <|b|>"


def test_a_test_row_is_only_held_against_the_length() -> None:
    findings = Findings()
    silent = Example("r1", (1, 2), (False, False), has_stop=False)
    find_unfit(ROW, silent, findings, max_length=3, is_test=True)
    assert not findings.all()


def test_every_row_is_in_one_bin_of_the_histogram() -> None:
    lengths = [1, 1, 20, 21, 400, 399]
    found = summarize(lengths, 0.5, 2)
    assert sum(count for _, count in found.bins) == len(lengths)
    assert found.bins[0] == (20, 3)
    assert found.bins[-1] == (400, 2)
    assert (found.median, found.longest) == (20, 400)
    assert summarize([1], 1.0, 0).bins == ((1, 1),)


def _encoded(item: int, tokenizer: object, stop_ids: frozenset[int]) -> Example:
    """Return an example with one of all that can be wrong, by the number of the row."""
    del tokenizer, stop_ids
    if item % 7 == 0:
        raise InputError(f"row r{item}: no assistant turn to learn from")
    ids = tuple(range(1 + item % 50))
    learned = tuple(i > item % 3 for i in ids)
    marks = ("<|im_end|>",) if item % 13 == 0 else ()
    return Example(
        f"r{item}", ids, learned, num_cut=item % 5, has_stop=item % 11 > 0, control_strings=marks
    )


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system cannot fork"
)
@pytest.mark.parametrize("is_test", [False, True])
def test_several_processes_find_what_one_does(is_test: bool) -> None:
    domain = Domain(
        parts=cast(DataSplit[int], None),
        head="causal-lm",
        labels=(),
        is_multi_label=False,
        encode=_encoded,
        is_known=lambda item: item % 17 > 0,
        make_tasks=lambda: ([], []),
    )
    rows = [DataRow(f"r{i}", f"a:{i}", i, "", "", "", None, "") for i in range(1_200)]

    def result(workers: int) -> tuple[object, tuple[Finding, ...], int]:
        findings = Findings()
        done: list[int] = []
        lengths, _ = measure(
            *(domain, rows, None, frozenset(), findings),
            max_length=50,
            is_test=is_test,
            advance=done.append,
            workers=workers,
        )
        return lengths, findings.all(), sum(done)

    alone = result(1)
    assert result(2) == alone
    assert len(alone[1]) == (3 if is_test else 5)
    assert alone[2] == len(rows)
