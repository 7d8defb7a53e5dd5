"""Figures that are functions of sums over the items, which resampling takes many draws of at once.

A share, a macro F1, a perplexity, a largest gap between groups: each needs only the sums of a few
numbers an item, and the sums of a resample are a product of two matrices. Such a figure costs a
resample a thousandth of what it costs to hand over the items again.

X any number of draws, N items, K sums, C classes, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from eval.task import Sample

Values = NDArray[np.float64]
Terms = Callable[[Sequence[Sample]], "csr_array[np.float64] | Values"]
"""The numbers of each item, shape (N, K); K is the same whichever items are given."""


@dataclass(frozen=True)
class OfSums:
    """A figure of a task that is a function of sums over its items."""

    terms: Terms
    figure: Callable[[Values], Values]
    """Maps sums, shape (X, K), to the figures, shape (X,); NaN where it is undefined on them."""

    def __call__(self, samples: Sequence[Sample]) -> float:
        """Return the figure on some items."""
        sums_K = np.asarray(csr_array(self.terms(samples)).sum(axis=0), dtype=np.float64)
        return float(self.figure(sums_K.reshape(1, -1))[0])


@dataclass(frozen=True)
class LargestGap(OfSums):
    """The largest gap between groups in any of several rates: never below 0, and lifted by noise.

    What it is the largest of has no such lift, and bounds how far it can be from the truth:
    ``| max_k |d_k| - max_k |e_k| | <= max_k |d_k - e_k|``. `eval.stats.estimate` takes its interval
    from there.
    """

    differences: Callable[[Values], Values]
    """Maps sums, shape (X, K), to all signed gaps, shape (X, gaps)."""


def largest_gap(terms: Terms, rates: Callable[[Values], Values]) -> LargestGap:
    """Return the figure "largest gap between two groups in any of the rates", see `largest_of`.

    Args:
        terms: the numbers of each item.
        rates: maps sums, shape (X, K), to rates, shape (X, G, C).
    """
    return LargestGap(
        terms, lambda sums_XK: largest_of(rates(sums_XK)), lambda sums_XK: gaps_of(rates(sums_XK))
    )


def gaps_of(rates_XGC: Values) -> Values:
    """Return the signed gaps between every two groups in every rate, shape (X, gaps).

    A rate that is undefined in every group is not looked at, and its gaps are 0; one that is
    undefined in some groups only has undefined gaps.
    """
    one, other = np.triu_indices(rates_XGC.shape[1], k=1)
    gaps_XPC = rates_XGC[:, one] - rates_XGC[:, other]
    is_absent_X1C = np.isnan(rates_XGC).all(axis=1, keepdims=True)
    return np.where(is_absent_X1C, 0.0, gaps_XPC).reshape(len(gaps_XPC), -1)


def largest_of(rates_XGC: Values) -> Values:
    """Return the largest gap between two groups in any rate, shape (X,), in 0..1.

    NaN with fewer than two groups, where no rate is defined at all, and where one is defined in
    some groups and not in others.
    """
    gaps_X = np.abs(gaps_of(rates_XGC)).max(axis=1, initial=0.0)
    is_empty_X = np.isnan(rates_XGC).all(axis=(1, 2))
    return np.where(is_empty_X | (rates_XGC.shape[1] < 2), np.nan, gaps_X)


def one_hot(codes: Sequence[int], num_columns: int) -> csr_array[np.float64]:
    """Return a matrix with a one a row, in the column that is named; a row of -1 has none.

    Example:
        >>> one_hot([1, -1], 3).toarray().tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    columns = np.asarray(codes, dtype=np.intp)
    rows = np.flatnonzero(columns >= 0)
    shape = (len(columns), num_columns)
    return csr_array((np.ones(len(rows)), (rows, columns[rows])), shape=shape)


def divided(values: Values, by: Values) -> Values:
    """Return the quotient; NaN where it is divided by zero."""
    found = np.full(np.broadcast_shapes(values.shape, by.shape), np.nan)
    np.divide(values, by, out=found, where=by != 0)
    return found


def mean_of_defined(values_XC: Values) -> Values:
    """Return the mean of what is defined; NaN where nothing is."""
    is_defined = ~np.isnan(values_XC)
    return divided(np.where(is_defined, values_XC, 0.0).sum(axis=1), is_defined.sum(axis=1) * 1.0)
