from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from finetune.encoding import Example, collate
from finetune.loss import classification_losses, lm_losses, only_rows
from tests import tiny


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> Any:
    return tiny.load_base(tiny_base)


@pytest.fixture(scope="module")
def classifier(tiny_base: Path) -> Any:
    return tiny.load_base(tiny_base, labels=tiny.LABELS)


def one_micro_batch(base: Any, examples: list[Example]) -> dict[str, torch.Tensor]:
    batch = collate(examples, pad_id=base.tokenizer.pad_token_id, max_tokens=100_000)
    (micro_batch,) = batch.micro_batches
    return micro_batch


@pytest.fixture
def micro_batch(base: Any) -> dict[str, torch.Tensor]:
    rows = tiny.chat_rows(2) + tiny.chat_rows(2, num_turns=2)[:1]
    return one_micro_batch(base, tiny.chat_examples(base.tokenizer, rows))


def test_the_loss_is_the_cross_entropy_of_the_full_logits(
    base: Any, micro_batch: dict[str, torch.Tensor]
) -> None:
    sums, weights = lm_losses(base.model, base.model.lm_head, micro_batch)
    logits = base.model(
        input_ids=micro_batch["input_ids"], attention_mask=micro_batch["attention_mask"]
    ).logits
    targets = micro_batch["input_ids"].masked_fill(~micro_batch["supervised"], -100)
    for i, (row, target) in enumerate(zip(logits, targets, strict=True)):
        wanted = F.cross_entropy(row[:-1], target[1:], reduction="sum")  # -100 is left out
        # float32 sums of some 20 terms of size 5, in another order
        torch.testing.assert_close(sums[i], wanted, atol=1e-4, rtol=0)
        assert weights[i] == (target[1:] != -100).sum()


def test_the_head_sees_the_supervised_rows_and_no_others(
    base: Any, micro_batch: dict[str, torch.Tensor]
) -> None:
    shapes = []
    handle = base.model.lm_head.register_forward_hook(
        lambda _, inputs, output: shapes.append((*inputs[0].shape, *output.shape))
    )
    lm_losses(base.model, base.model.lm_head, micro_batch)
    handle.remove()
    N = int(micro_batch["supervised"].sum())
    assert 0 < N < micro_batch["input_ids"].numel() / 2
    assert shapes == [(1, N, 64, 1, N, 260)]


def test_the_head_sees_all_rows_again_whatever_happens(base: Any) -> None:
    head, rows = base.model.lm_head, torch.tensor([[True, False]])
    with pytest.raises(RuntimeError), only_rows(head, rows):
        head(torch.zeros(1, 2, 63))  # of a wrong width
    with only_rows(head, rows):
        assert head(torch.zeros(1, 2, 64)).shape == (1, 1, 260)
    assert head(torch.zeros(1, 2, 64)).shape == (1, 2, 260)


def test_padding_does_not_enter_the_loss(base: Any) -> None:
    examples = tiny.chat_examples(base.tokenizer, tiny.chat_rows(4))
    together = one_micro_batch(base, examples)
    assert not together["attention_mask"].all()
    sums, weights = lm_losses(base.model, base.model.lm_head, together)
    alone = [
        lm_losses(base.model, base.model.lm_head, one_micro_batch(base, [e]))
        for e in sorted(examples, key=lambda e: len(e.input_ids))
    ]
    # the shape of a matrix product decides the order in which float32 sums are made
    torch.testing.assert_close(sums, torch.cat([s for s, _ in alone]), atol=1e-4, rtol=0)
    assert weights.equal(torch.cat([w for _, w in alone]))

    together["input_ids"][together["attention_mask"] == 0] = 5
    assert lm_losses(base.model, base.model.lm_head, together)[0].equal(sums)


def test_an_example_without_supervised_tokens_adds_nothing(base: Any) -> None:
    examples = [
        Example("none", (5, 6, 7), (False, False, False)),
        Example("first only", (5, 6, 7), (True, False, False)),
        Example("last", (5, 6, 7), (False, False, True)),
    ]
    sums, weights = lm_losses(base.model, base.model.lm_head, one_micro_batch(base, examples))
    assert weights.tolist() == [0, 0, 1]
    assert sums[:2].tolist() == [0, 0]
    assert sums[2] > 0


def _torch_single(logits: torch.Tensor, labels: Any) -> torch.Tensor:
    return F.cross_entropy(logits, torch.tensor(labels), reduction="none")


def _torch_multi(logits: torch.Tensor, labels: Any) -> torch.Tensor:
    p = logits.double().sigmoid()
    y = torch.tensor(labels).double()
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean(1).float()


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([0, 2, 1], _torch_single),
        ([(1.0, 0.0, 1.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)], _torch_multi),
    ],
    ids=["one label", "several labels"],
)
def test_a_classification_loss_is_weighted_and_blind_to_padding(
    classifier: Any, labels: list[Any], wanted: Callable[[torch.Tensor, Any], torch.Tensor]
) -> None:
    texts, weights = ("a fee", "my other card", "why was my loan refused"), (0.5, 1.0, 3.0)
    examples = [
        Example(str(i), tuple(classifier.tokenizer(t)["input_ids"]), label=c, weight=w)
        for i, (t, c, w) in enumerate(zip(texts, labels, weights, strict=True))
    ]
    losses, found = classification_losses(classifier.model, one_micro_batch(classifier, examples))
    logits = torch.cat([tiny.logits(classifier, classifier.model, t) for t in texts])
    assert tuple(found.tolist()) == weights
    # float32, padded against not
    expected = wanted(logits, labels) * torch.tensor(weights)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=0)
