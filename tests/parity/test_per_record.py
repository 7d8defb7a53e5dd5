"""Gradients per record and the clipped sum against opacus, which computes them by hooks."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from privacy.mechanism import clip_and_sum
from privacy.per_record import PerRecord
from tests.privacy.conftest import tiny_llama, with_lora
from tests.privacy.test_per_record import a_batch, all_at_once, losses_of, one_by_one

pytestmark = pytest.mark.parity


def a_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5, bias=False), nn.Linear(5, 3))
    model[2].requires_grad_(False)
    return model


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = model(x).square().flatten(1).mean(1).sum()
    return out


@pytest.mark.parametrize("shape", [(8, 6), (8, 4, 6)], ids=["rows", "sequences"])
def test_gradients_and_clipped_sum_are_those_of_opacus(shape: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within opacus
        from opacus.grad_sample import GradSampleModule
        from opacus.optimizers import DPOptimizer

    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    theirs = GradSampleModule(a_model(), loss_reduction="sum")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        loss_of(theirs, x).backward()
    trained = [p for p in theirs.parameters() if p.requires_grad]
    wanted = [p.grad_sample.clone() for p in trained]

    model = a_model()
    per_record = PerRecord()
    per_record.attach(model)
    per_record.begin(len(x))
    loss_of(model, x).backward()
    found = per_record.gradients()
    assert len(found) == len(wanted) == 4
    for ours, reference in zip(found, wanted, strict=True):
        assert (ours - reference).abs().max() < 1e-6  # float32

    norms = torch.cat([g.flatten(1) for g in found], 1).norm(dim=1)
    bound = float(norms.median())
    optimizer = DPOptimizer(
        torch.optim.SGD(trained, lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=bound,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    optimizer.clip_and_accumulate()
    sums, found_norms, _ = clip_and_sum(found, bound)
    assert torch.allclose(found_norms.float(), norms, rtol=1e-6)
    for ours, parameter in zip(sums, trained, strict=True):
        # opacus adds 1e-6 to each norm, and ours aims one part in a million below the bound
        assert torch.allclose(ours, parameter.summed_grad, rtol=1e-4, atol=1e-6)


KINDS = {
    "lora": ("causal-lm", {}),
    "rslora": ("causal-lm", {"use_rslora": True}),
    "saved-head": ("classification", {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_error_of_an_adapters_gradients_is_zero(kind: str) -> None:
    """Against opacus in one batch, and against autograd on batches of one: the same bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within opacus
        from opacus.grad_sample import GradSampleHooks

    head, options = KINDS[kind]
    batch = a_batch(records=5)
    found = all_at_once(with_lora(tiny_llama(head), head, **options), batch)

    theirs = with_lora(tiny_llama(head), head, **options)
    hooks = GradSampleHooks(theirs, loss_reduction="sum", strict=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        losses_of(theirs, batch).sum().backward()
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            assert float((found[name] - parameter.grad_sample).abs().max()) == 0, name
    hooks.cleanup()

    model = with_lora(tiny_llama(head), head, **options)
    for row in range(5):
        alone = {name: values[row : row + 1] for name, values in batch.items()}
        ours, wanted = all_at_once(model, alone), one_by_one(model, alone)
        assert ours.keys() == wanted.keys() == found.keys()
        for name in wanted:
            assert float((ours[name] - wanted[name]).abs().max()) == 0, name
