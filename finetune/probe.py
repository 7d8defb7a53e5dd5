"""A linear probe: logistic regression on what a frozen encoder makes of the rows.

It is the baseline that a trained adapter has to beat, and where the adapter's head begins.
Of private rows no probe is made: it would release them without noise.

N texts, D width, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from finetune.encoding import Example
from finetune.errors import InputError

Values = NDArray[np.float64]

_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Inverse regularisation that is tried, for features of mean square norm 1."""

_FRACTION = 0.1  # of the rows, to choose by where none are held back


@dataclass(frozen=True)
class Probe:
    """A fitted probe, as a linear layer on the features as they are."""

    weight: torch.Tensor
    """``(K, D)``."""

    bias: torch.Tensor
    """``(K,)``."""

    strength: float
    """Of the inverse regularisation that did best on rows that were not fitted."""


def fit(
    features_ND: torch.Tensor,
    examples: Sequence[Example],
    held_features_ND: torch.Tensor,
    held: Sequence[Example],
    *,
    num_classes: int,
    seed: int,
) -> Probe:
    """Fit a probe, its regularisation chosen by the loss on held-back rows.

    Args:
        features_ND: of ``examples``, in float32.
        examples: with labels; class weights count.
        held_features_ND: of ``held``.
        held: rows that only choose. Without any, a tenth of the examples chooses, and the probe is
            fitted anew on all.
        num_classes: of the head; a class without a row gets the weight zero and a low bias.
        seed: of that choice of a tenth.

    Raises:
        InputError: if all rows have the same label.
    """
    centre_D = features_ND.double().mean(0)
    centred = features_ND.double() - centre_D
    scale = float(centred.square().sum(1).mean().sqrt()) or 1.0
    X = (centred / scale).numpy()
    Y = _targets(examples, num_classes)
    if not (Y.any(0) & ~Y.all(0)).any():
        raise InputError("all training rows have the same label: there is nothing to tell apart")
    weights = np.array([example.weight for example in examples])
    if held:
        V = ((held_features_ND.double() - centre_D) / scale).numpy()
        tried = (X, Y, weights), (V, _targets(held, num_classes))
    else:
        order = np.random.default_rng(seed).permutation(len(X))
        some, rest = np.split(order, [max(1, round(_FRACTION * len(X)))])
        tried = (X[rest], Y[rest], weights[rest]), (X[some], Y[some])
    is_multi = isinstance(examples[0].label, tuple)
    losses = {
        strength: _loss(_fit(*tried[0], strength, is_multi), *tried[1], is_multi)
        for strength in _STRENGTHS
    }
    best = min(losses, key=lambda strength: losses[strength])
    W, b = _fit(X, Y, weights, best, is_multi)
    weight_KD = torch.from_numpy(W / scale)
    bias_K = torch.from_numpy(b) - weight_KD @ centre_D
    return Probe(weight_KD.float(), bias_K.float(), best)


def _targets(examples: Sequence[Example], num_classes: int) -> NDArray[np.bool_]:
    """Return a row of 0 and 1 for each example, one column a class."""
    found = np.zeros((len(examples), num_classes), dtype=np.bool_)
    for row, example in zip(found, examples, strict=True):
        if isinstance(example.label, tuple):
            row[:] = np.array(example.label) > 0
        else:
            row[example.label] = True
    return found


def _fit(
    X: Values, Y: NDArray[np.bool_], weights: Values, strength: float, is_multi: bool
) -> tuple[Values, Values]:
    """Return weights ``(K, D)`` and biases ``(K,)``."""
    if is_multi:
        columns = [_binary(X, Y[:, k], weights, strength) for k in range(Y.shape[1])]
        return np.stack([w for w, _ in columns]), np.array([b for _, b in columns])
    W, b = np.zeros((Y.shape[1], X.shape[1])), np.full(Y.shape[1], _ABSENT)
    model = _regression(strength)
    with _quietly():
        model.fit(X, Y.argmax(1), sample_weight=weights)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
        W[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
        b[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        W[model.classes_], b[model.classes_] = model.coef_, model.intercept_
    return W, b


_ABSENT = -10.0
"""Bias of a class that no row has: unlikely, and still to be learned."""


def _binary(
    X: Values, y: NDArray[np.bool_], weights: Values, strength: float
) -> tuple[Values, float]:
    if y.all() or not y.any():
        return np.zeros(X.shape[1]), -_ABSENT if y.all() else _ABSENT
    model = _regression(strength)
    with _quietly():
        model.fit(X, y, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=300, tol=1e-4)


class _quietly(warnings.catch_warnings):  # noqa: N801 (used as a function)
    """A probe that is not quite converged is one all the same; the held-back loss judges it."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", ConvergenceWarning)


def _loss(fitted: tuple[Values, Values], X: Values, Y: NDArray[np.bool_], is_multi: bool) -> float:
    """Return the mean cross-entropy in nats."""
    logits = X @ fitted[0].T + fitted[1]
    if is_multi:
        return float((np.logaddexp(0, logits) - Y * logits).mean())
    largest = logits.max(1, keepdims=True)
    total = np.log(np.exp(logits - largest).sum(1)) + largest[:, 0]
    return float((total - logits[Y]).mean())
