"""Rows as tokens: how long they are, how much of them is learned, and which do not fit."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recipes.check.lean_tokenizer import lean
from recipes.check.workers import started
from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.split import DataRow
from recipes.domains import Domain

if TYPE_CHECKING:
    from finetune.encoding import Example

NUM_BINS = 20


@dataclass(frozen=True)
class Lengths:
    """Lengths of the rows of one part, in tokens."""

    num_rows: int
    median: int
    p95: int
    longest: int
    bins: tuple[tuple[int, int], ...]
    """Upper end of a bin (inclusive): rows in it. Bins have equal width, from 0."""

    supervised_share: float
    """Share of the tokens that is learned; 1 for a classifier, which learns from all."""

    num_cut: int
    """Rows of which something is cut at `train.max_length`."""


@dataclass(frozen=True)
class Shown:
    """One example as the model reads it."""

    row: str
    runs: tuple[tuple[str, bool], ...]
    """Text, and whether it is learned."""

    label: str = ""
    """Of a classification row."""

    control_texts: tuple[tuple[tuple[int, int], ...], ...] = ()
    """For each run, start and end of what reads like a control token and is text of the row."""


def measure(
    domain: Domain,
    rows: Sequence[DataRow[Any]],
    tokenizer: Any,
    stop_ids: frozenset[int],
    findings: Findings,
    *,
    max_length: int,
    is_test: bool = False,
    num_shown: int = 0,
    advance: Callable[[int], None] = lambda _: None,
    workers: int | None = None,
    fits: Fits | None = None,
) -> tuple[Lengths | None, tuple[Shown, ...]]:
    """Encode rows as training does; rows that do not fit become findings.

    Args:
        domain: of the recipe.
        rows: of one part.
        tokenizer: of the base.
        stop_ids: token ids at which generation ends.
        findings: receives what does not fit.
        max_length: of the recipe, in tokens.
        is_test: whether nothing is learned from the rows.
        num_shown: rows that are returned as the model reads them.
        advance: called with the number of rows done.
        workers: processes that encode; by default as many as help.
        fits: from `encoding` of these rows, where that was started before.

    Returns:
        The lengths, or None where no row can be encoded; and the rows to show.
    """
    if fits is None:
        with encoding(domain, rows, tokenizer, stop_ids, workers=workers) as fits:
            return measure(
                *(domain, rows, tokenizer, stop_ids, findings),
                max_length=max_length,
                is_test=is_test,
                num_shown=num_shown,
                advance=advance,
                fits=fits,
            )
    lengths = array("q")
    usable: list[DataRow[Any]] = []
    num_learned = num_cut = 0
    is_classifier = domain.head != "causal-lm"
    for chunk, found in fits:
        for row, fit in zip(rows[chunk.start : chunk.stop], found, strict=True):
            if fit is None:
                continue
            if isinstance(fit, str):
                findings.add(catalog.NOT_ENCODABLE, row.place, fit, row=row.id)
                continue
            lengths.append(fit.whole)
            num_learned += fit.num_learned
            num_cut += fit.num_cut > 0
            _find_unfit(row, fit, findings, max_length=max_length, is_test=is_test)
            if len(usable) < num_shown:
                usable.append(row)
        advance(len(chunk))
    if not lengths:
        return None, ()
    share = 1.0 if is_classifier else num_learned / sum(lengths)
    shown = [_shown(domain, row, tokenizer, stop_ids) for row in usable]
    return summarize(lengths, share, num_cut), tuple(shown)


@contextmanager
def encoding(
    domain: Domain,
    rows: Sequence[DataRow[Any]],
    tokenizer: Any,
    stop_ids: frozenset[int],
    *,
    workers: int | None = None,
) -> Iterator[Fits]:
    """Start to encode rows as training does; many rows are encoded while other work is done.

    Args:
        domain: of the recipe.
        rows: of one part.
        tokenizer: of the base.
        stop_ids: token ids at which generation ends.
        workers: processes that encode; by default as many as help.
    """
    from finetune.errors import InputError

    quick = lean(tokenizer)

    def encode(chunk: range) -> list[_Fit | str | None]:
        """Encode some rows: how each fits, or why it cannot be encoded."""
        found: list[_Fit | str | None] = []
        for row in rows[chunk.start : chunk.stop]:
            if not domain.is_known(row.item):
                found.append(None)  # its label is a finding already
                continue
            try:
                found.append(_Fit.of(domain.encode(row.item, quick, stop_ids)))
            except InputError as error:
                found.append(str(error).removeprefix(f"row {row.id}: "))
        return found

    with started(encode, len(rows), workers=workers) as fits:
        yield fits


class _Fit(NamedTuple):
    """How an encoded row fits; a process hands over a million of them."""

    whole: int
    """Tokens, those that are cut included."""

    num_cut: int
    num_learned: int
    has_stop: bool
    is_learnable: bool
    control_strings: tuple[str, ...]

    @staticmethod
    def of(example: Example) -> _Fit:
        return _Fit(
            len(example.input_ids) + example.num_cut,
            example.num_cut,
            example.num_supervised,
            example.has_stop,
            example.is_learnable,
            example.control_strings,
        )


Fits = Iterator[tuple[range, list[_Fit | str | None]]]
"""Row numbers, and how each row fits: None if its label is not known, a text if it cannot be
encoded."""


def _shown(domain: Domain, row: DataRow[Any], tokenizer: Any, stop_ids: frozenset[int]) -> Shown:
    from finetune.encoding import marked

    runs = marked(tokenizer, domain.encode(row.item, tokenizer, stop_ids))
    return Shown(
        row.id,
        tuple((run.text, run.is_learned) for run in runs),
        row.label if domain.head != "causal-lm" else "",
        tuple(run.control_texts for run in runs),
    )


def find_unfit(
    row: DataRow[Any],
    example: Example,
    findings: Findings,
    *,
    max_length: int,
    is_test: bool = False,
) -> None:
    """Record a row of which something is cut, or from which the wrong thing would be learned."""
    _find_unfit(row, _Fit.of(example), findings, max_length=max_length, is_test=is_test)


def _find_unfit(
    row: DataRow[Any], fit: _Fit, findings: Findings, *, max_length: int, is_test: bool
) -> None:
    if fit.num_cut:
        detail = f"at least {fit.whole} tokens, {fit.num_cut} cut at {max_length}"
        kind = catalog.TEST_ROW_TOO_LONG if is_test else catalog.ROW_TOO_LONG
        findings.add(kind, row.place, detail, row=row.id)
    if fit.control_strings:
        names = ", ".join(fit.control_strings)
        findings.add(catalog.CONTROL_TOKENS, row.place, f"holds {names}", row=row.id)
    if is_test:
        return
    if not fit.has_stop:
        findings.add(catalog.NO_STOP_TOKEN, row.place, row=row.id)
    if not fit.is_learnable:
        findings.add(catalog.NOTHING_LEARNED, row.place, row=row.id)


def summarize(lengths: Sequence[int], supervised_share: float, num_cut: int) -> Lengths:
    """Return percentiles and a histogram of at least one length."""
    values = np.asarray(lengths)
    longest = int(values.max())
    width = max(1, -(-longest // NUM_BINS))
    counts = np.bincount((values - 1).clip(0) // width)
    return Lengths(
        num_rows=len(values),
        median=round(float(np.median(values))),
        p95=round(float(np.quantile(values, 0.95))),
        longest=longest,
        bins=tuple((width * (i + 1), int(count)) for i, count in enumerate(counts)),
        supervised_share=supervised_share,
        num_cut=num_cut,
    )
