"""A probe is logistic regression in the encoder's own coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from finetune.encoding import Example
from finetune.errors import InputError
from finetune.probe import fit


def rows(labels: Sequence[int | tuple[float, ...]], first_weight: float = 1.0) -> list[Example]:
    return [
        Example(id=str(i), input_ids=(1,), label=label, weight=1.0 if i else first_weight)
        for i, label in enumerate(labels)
    ]


def clouds(count: int, num_classes: int, width: int = 6) -> tuple[torch.Tensor, list[int]]:
    """Clouds far from the origin and of another scale, as an encoder's vectors are."""
    rng = np.random.default_rng(0)
    labels = [i % num_classes for i in range(count)]
    centres = 3 * rng.standard_normal((num_classes, width))
    return torch.tensor(
        50 + 7 * (centres[labels] + rng.standard_normal((count, width))), dtype=torch.float32
    ), labels


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("num_held", [0, 60])
def test_a_probe_tells_clouds_apart_in_the_features_as_they_are(
    num_classes: int, num_held: int
) -> None:
    X, labels = clouds(300, num_classes)
    y = rows(labels)
    found = fit(
        X[num_held:], y[num_held:], X[:num_held], y[:num_held], num_classes=num_classes, seed=0
    )
    logits = X @ found.weight.T + found.bias
    assert (logits.argmax(1) == torch.tensor(labels)).float().mean() > 0.9


def test_a_probe_of_two_classes_gives_the_probabilities_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    X, labels = clouds(200, 2)
    found = fit(X, rows(labels), X[:0], [], num_classes=2, seed=0)
    scaled = (X - X.mean(0)).double()
    scale = scaled.square().sum(1).mean().sqrt()
    model = LogisticRegression(C=found.strength, max_iter=300, tol=1e-4)
    wanted = model.fit((scaled / scale).numpy(), labels).predict_proba((scaled / scale).numpy())
    logits = X.double() @ found.weight.double().T + found.bias.double()
    assert np.allclose(logits.softmax(1).numpy(), wanted, atol=1e-3)


def test_several_labels_at_once_are_fitted_one_by_one() -> None:
    X, labels = clouds(300, 3)
    both = [(float(label == 0), float(label != 1)) for label in labels]
    found = fit(X, rows(both), X[:0], [], num_classes=2, seed=0)
    right = ((X @ found.weight.T + found.bias) > 0) == (torch.tensor(both) > 0)
    assert right.float().mean() > 0.9


def test_a_class_without_a_row_is_unlikely_and_nothing_breaks() -> None:
    X, labels = clouds(90, 3)
    found = fit(X, rows(labels), X[:0], [], num_classes=4, seed=0)
    assert not found.weight[3].any()
    assert ((X @ found.weight.T + found.bias).argmax(1) != 3).all()


def test_one_label_alone_cannot_be_told_apart() -> None:
    X, _ = clouds(20, 2)
    with pytest.raises(InputError, match="same label"):
        fit(X, rows([0] * 20), X[:0], [], num_classes=2, seed=0)


def test_a_weighted_row_counts_as_so_many_rows() -> None:
    X, labels = clouds(60, 2)
    doubled = fit(
        torch.cat([X, X[:1]]),
        rows([*labels, labels[0]]),
        X,
        rows(labels),
        num_classes=2,
        seed=0,
    )
    weighted = fit(X, rows(labels, 2.0), X, rows(labels), num_classes=2, seed=0)
    assert doubled.strength == weighted.strength
    # the scale of the features differs by one row in sixty
    assert torch.allclose(doubled.weight, weighted.weight, rtol=0.2, atol=0.02)
