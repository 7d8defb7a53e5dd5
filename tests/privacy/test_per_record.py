"""Gradients per record against the plain thing: one backward for each record alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privacy.errors import PrivacyError
from privacy.per_record import PerRecord, covered_parameters

Model = Callable[..., nn.Module]

# peft 0.21 reads a property of transformers 5 that was renamed; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def a_batch(records: int = 4, tokens: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, 61, (records, tokens), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(records):  # of different lengths, padded on the right
        mask[row, tokens - row :] = 0
    labels = torch.randint(0, 3, (records,), generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


def losses_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Mean loss of each record over its own tokens, or its classification loss."""
    out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    if out.dim() == 2:
        return F.cross_entropy(out.float(), batch["labels"], reduction="none")
    targets, mask = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:]
    loss = F.cross_entropy(out[:, :-1].float().transpose(1, 2), targets, reduction="none")
    return (loss * mask).sum(1) / mask.sum(1)


def one_by_one(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference: autograd's own gradient of each record's loss, all else equal."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[Tensor]] = {n: [] for n in parameters}
    for record in range(len(batch["input_ids"])):
        found = torch.autograd.grad(losses_of(model, batch)[record], list(parameters.values()))
        for name, gradient in zip(parameters, found, strict=True):
            rows[name].append(gradient)
    return {n: torch.stack(r) for n, r in rows.items()}


def all_at_once(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    per_record = PerRecord()
    per_record.attach(model)
    losses = losses_of(model, batch)
    per_record.begin(len(losses))
    torch.autograd.backward(losses.sum())
    found = dict(zip(per_record.parameters, per_record.gradients(), strict=True))
    per_record.detach()
    return found


def furthest(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    assert found.keys() == wanted.keys()
    return max(float((found[n] - wanted[n]).abs().max()) for n in wanted)


@pytest.mark.parametrize("checkpointing", ["none", "reentrant", "non-reentrant"])
@pytest.mark.parametrize(
    ("head", "options"),
    [("causal-lm", {}), ("causal-lm", {"use_rslora": True}), ("classification", {})],
    ids=["lora", "rslora", "saved-head"],
)
def test_each_record_gets_the_gradient_of_its_own_loss(
    make_model: Model, head: str, options: dict[str, Any], checkpointing: str
) -> None:
    model = make_model(head, **options)
    wanted = one_by_one(model, a_batch())
    if head == "classification":
        assert any("score" in name for name in wanted)
    if checkpointing != "none":
        model.train()
        model.enable_input_require_grads()  # type: ignore[operator]
        model.activation_checkpointing_enable(  # type: ignore[operator]
            activation_checkpointing_kwargs={"use_reentrant": checkpointing == "reentrant"}
        )
        assert any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    # 1e-6: float32 sums over positions, in another order.
    assert furthest(all_at_once(model, a_batch()), wanted) < 1e-6


def test_under_autocast_the_records_add_up_to_the_plain_gradient(make_model: Model) -> None:
    model, batch = make_model(), a_batch()
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.autocast("cpu", torch.bfloat16):
        plain = torch.autograd.grad(losses_of(model, batch).sum(), parameters)
    per_record = PerRecord()
    per_record.attach(model)
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(model, batch)
    per_record.begin(len(losses))
    torch.autograd.backward(losses.sum())
    for found, wanted in zip(per_record.gradients(), plain, strict=True):
        assert found.dtype == torch.bfloat16
        # 1 %: the plain sum over records is rounded to bfloat16 (8 bits), ours is each record.
        assert (found.float().sum(0) - wanted).norm() < 0.01 * wanted.norm()


def test_a_layer_that_is_called_twice_adds_up() -> None:
    layer = nn.Linear(3, 3)
    x = torch.randn(5, 3)
    per_record = PerRecord()
    per_record.attach(layer)
    per_record.begin(5)
    torch.autograd.backward(layer(torch.tanh(layer(x))).sum())
    weight, bias = per_record.gradients()
    per_record.detach()
    for row in range(5):
        wanted = torch.autograd.grad(
            layer(torch.tanh(layer(x[row : row + 1]))).sum(), [layer.weight, layer.bias]
        )
        assert torch.allclose(weight[row], wanted[0], atol=1e-6)
        assert torch.allclose(bias[row], wanted[1], atol=1e-6)


def test_a_hook_before_a_layer_changes_what_its_records_gave_it() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 3, bias=False)
    map_DD = torch.randn(5, 5)
    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] @ map_DD,))
    x_BD, target_B = torch.randn(4, 5), torch.tensor([0, 2, 1, 1])
    per_record = PerRecord()
    per_record.attach(layer)
    losses = F.cross_entropy(layer(x_BD), target_B, reduction="none")
    per_record.begin(4)
    torch.autograd.backward(losses.sum())
    [found] = per_record.gradients()
    per_record.detach()
    for row in range(4):
        loss = F.cross_entropy(layer(x_BD[row : row + 1]), target_B[row : row + 1])
        [wanted] = torch.autograd.grad(loss, [layer.weight])
        torch.testing.assert_close(found[row], wanted)


def test_layers_that_share_a_weight_share_its_gradient() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    x = torch.randn(4, 3)
    per_record = PerRecord()
    per_record.attach(model)
    per_record.begin(4)
    torch.autograd.backward(model(x).sum())
    (found,) = per_record.gradients()
    per_record.detach()
    (wanted,) = torch.autograd.grad(model(x).sum(), [model[0].weight])
    assert torch.allclose(found.sum(0), wanted, atol=1e-6)


def test_a_parameter_that_the_loss_does_not_reach_has_zeros() -> None:
    model = nn.ModuleList([nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)])
    per_record = PerRecord()
    per_record.attach(model)
    per_record.begin(3)
    torch.autograd.backward(model[0](torch.ones(3, 2)).sum())
    reached, idle = per_record.gradients()
    assert reached.shape == idle.shape == (3, 2, 2)
    assert bool(reached.any())
    assert not bool(idle.any())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_dora": True, "target_modules": ["q_proj"]}, "lora_magnitude_vector"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "lora_embedding"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, "embed_tokens"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["norm"]}, "norm"),
    ],
)
def test_a_trainable_tensor_that_is_not_covered_is_refused_by_name(
    make_model: Model, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(PrivacyError, match=named):
        PerRecord().attach(make_model(**options))


def test_a_tied_embedding_is_refused() -> None:
    model = nn.ModuleDict({"head": nn.Linear(4, 9, bias=False), "embed": nn.Embedding(9, 4)})
    model["embed"].weight = model["head"].weight
    with pytest.raises(PrivacyError, match=r"embed\.weight"):
        covered_parameters(model)


def test_a_frozen_model_is_refused() -> None:
    with pytest.raises(PrivacyError, match="Nothing is trainable"):
        covered_parameters(nn.Linear(2, 2).requires_grad_(False))


@pytest.mark.parametrize("shape", [(1, 12, 3), (12, 3), (5, 3)])
def test_a_first_dimension_that_is_not_the_record_is_refused(shape: tuple[int, ...]) -> None:
    layer = nn.Linear(3, 2)
    per_record = PerRecord()
    per_record.attach(layer)
    per_record.begin(4)
    with pytest.raises(PrivacyError, match=r"weight saw an input .* for 4 records"):
        torch.autograd.backward(layer(torch.ones(shape)).sum())


def test_a_weight_that_is_used_past_its_layer_is_refused() -> None:
    layer = nn.Linear(3, 3, bias=False)
    per_record = PerRecord()
    per_record.attach(layer)
    per_record.begin(4)
    x = torch.ones(4, 3)
    torch.autograd.backward((layer(x) + F.linear(x, layer.weight)).sum())
    with pytest.raises(PrivacyError, match="summed over records"):
        per_record.gradients()


def test_a_backward_outside_begin_is_refused() -> None:
    layer = nn.Linear(3, 2)
    per_record = PerRecord()
    per_record.attach(layer)
    with pytest.raises(PrivacyError, match="outside begin"):
        torch.autograd.backward(layer(torch.ones(2, 3)).sum())


def test_a_batch_of_one_is_begun_an_empty_one_is_not_and_nothing_is_had_without() -> None:
    layer = nn.Linear(3, 2)
    per_record = PerRecord()
    per_record.attach(layer)
    with pytest.raises(RuntimeError, match="without begin"):
        per_record.gradients()
    with pytest.raises(ValueError, match="got 0"):
        per_record.begin(0)
    per_record.begin(1)
    torch.autograd.backward(layer(torch.ones(1, 3)).sum())
    assert [tuple(g.shape) for g in per_record.gradients()] == [(1, 2, 3), (1, 2)]
    with pytest.raises(RuntimeError, match="without begin"):
        per_record.gradients()


def test_a_loss_that_reaches_nothing_is_an_error() -> None:
    layer = nn.Linear(3, 2)
    per_record = PerRecord()
    per_record.attach(layer)
    per_record.begin(2)
    with pytest.raises(RuntimeError, match="No gradient"):
        per_record.gradients()


def test_attaching_twice_is_refused_and_detaching_restores() -> None:
    layer = nn.Linear(3, 2)
    per_record = PerRecord()
    per_record.attach(layer)
    with pytest.raises(PrivacyError, match="attached already"):
        per_record.attach(layer)
    with pytest.raises(PrivacyError, match="forward was replaced"):
        PerRecord().attach(layer)
    per_record.detach()
    assert "forward" not in vars(layer)
    torch.autograd.backward(layer(torch.ones(2, 3)).sum())
    assert layer.weight.grad is not None


def test_a_copy_of_an_attached_model_computes_with_its_own_weights() -> None:
    layer = nn.Linear(3, 2)
    PerRecord().attach(layer)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.zero_()
        twin.bias.zero_()
    assert not bool(twin(torch.ones(1, 3)).any())
    assert bool(layer(torch.ones(1, 3)).any())
