"""What opacus alone says to the faults of the corpus that can be set up with it.

Each function sets one fault up around a real `PrivacyEngine` and trains two steps or more. What is
returned is measured: an exception, a warning that names the matter, or silence. Faults for which
opacus has no place (several processes, claims on paper) are listed as not expressible.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

ROWS = 24


class Net(nn.Module):
    """Two layers on records of four positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class FlatNet(Net):
    """Positions become rows, as in some experts."""

    def forward(self, x: Tensor) -> Tensor:
        flat = super().forward(x.reshape(-1, x.shape[-1]))
        return flat.reshape(*x.shape[:-1], -1)


class NormNet(Net):
    """Batch statistics mix the records."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x).transpose(1, 2)).transpose(1, 2))


class Holder(nn.Module):
    """Holds a tensor, and is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))


class ScaledNet(Net):
    """A trainable tensor past every layer that is called, as a trained token is."""

    def __init__(self) -> None:
        super().__init__()
        self.holder = Holder()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.holder.scale


class SharedNet(Net):
    """A weight that is also read past its layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(F.linear(x, self.first.weight), self.second.weight)


def per_record(out: Tensor, y: Tensor) -> Tensor:
    return ((out - y[:, None, None]) ** 2).mean((1, 2)).mean()


def of_tokens(out: Tensor, y: Tensor) -> Tensor:
    """Divide by the positions of the whole batch, of which records have different numbers."""
    keep = (torch.arange(out.shape[1])[None] < (1 + y.long() % 4)[:, None]).float()
    return (((out - y[:, None, None]) ** 2).mean(2) * keep).sum() / keep.sum()


def contrastive(out: Tensor, y: Tensor) -> Tensor:
    flat = out.flatten(1)
    return F.cross_entropy(flat @ flat.T, torch.arange(len(flat))) + 0 * y.sum()


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from zip(*_data().tensors, strict=True)


def _data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 4, 3, generator=generator)
    return TensorDataset(x, torch.arange(ROWS).float() % 4)


def train(
    model: nn.Module | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = per_record,
    *,
    data: Any = None,
    poisson: bool = True,
    shuffle: bool = True,
    each_step: Callable[[Any], None] = lambda _: None,
    of_batch: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y),
    zero_grad: bool = True,
    accumulate: int = 1,
    accountant: str = "prv",
    delta: float = 1e-5,
    noise_multiplier: float = 1.0,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Any:
    """Train two passes with opacus, and ask it for epsilon."""
    from opacus import PrivacyEngine

    torch.manual_seed(1)
    model = (model or Net()).to(dtype)
    rows = data if data is not None else _data()
    is_stream = isinstance(rows, IterableDataset)
    loader = DataLoader(rows, batch_size=8, shuffle=shuffle and not is_stream)
    engine = PrivacyEngine(accountant=accountant)
    model, optimizer, loader = engine.make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=loader,
        noise_multiplier=noise_multiplier,
        max_grad_norm=1.0,
        poisson_sampling=poisson,
        **options,
    )
    count = 0
    for _ in range(2):
        for x, y in loader:
            if len(x) == 0:
                continue
            x, y = of_batch(x.to(dtype), y.to(dtype))
            if zero_grad and count % accumulate == 0:
                optimizer.zero_grad()
            loss(model(x), y).backward()
            count += 1
            if count % accumulate == 0:
                optimizer.step()
                each_step(optimizer)
    engine.get_epsilon(delta)
    return model


def _break_early() -> None:
    """Leave the batch manager's loop once, as max_steps does, and go on with the next epoch."""
    from opacus import PrivacyEngine
    from opacus.utils.batch_memory_manager import BatchMemoryManager

    torch.manual_seed(1)
    model: Any = Net()
    engine = PrivacyEngine()
    model, optimizer, loader = engine.make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=DataLoader(_data(), batch_size=8),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    for epoch in range(3):
        with BatchMemoryManager(
            data_loader=loader, max_physical_batch_size=3, optimizer=optimizer
        ) as small:
            for number, (x, y) in enumerate(small):
                optimizer.zero_grad()
                per_record(model(x), y).backward()
                optimizer.step()
                if epoch == 0 and number == 1:
                    break


def _replayed() -> None:
    state = torch.get_rng_state()
    train(each_step=lambda _: torch.set_rng_state(state))


def _resumed() -> None:
    train()
    train()  # a second engine, whose account begins at nothing


def _not_a_number() -> None:
    x, y = _data().tensors
    x = x.clone()
    x[3] = float("nan")
    train(data=TensorDataset(x, y), noise_multiplier=1.0)


def _packed() -> None:
    x, y = _data().tensors
    train(data=TensorDataset(x.reshape(ROWS // 2, 8, 3), y[::2]))


def _moved(optimizer: Any) -> None:
    """Change a weight beside the noisy step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.data.mul_(0.99)


FAULTS: dict[str, Callable[[], Any]] = {
    "S1": lambda: train(poisson=False),
    "S1 sequential": lambda: train(poisson=False, shuffle=False),
    "S1 streaming": lambda: train(data=Stream()),
    "S1b": lambda: train(poisson=False, shuffle=False),
    "S2": lambda: train(of_batch=lambda x, y: (x[:4], y[:4])),
    "S3": _break_early,
    "S4": lambda: train(accumulate=4),
    "S5": lambda: train(),  # the loop skips empty draws
    "S10": lambda: train(poisson=False),
    "U1": _packed,
    "U2": lambda: train(of_batch=lambda x, y: (x.reshape(1, -1, 3), y[:1])),
    "U3": lambda: train(FlatNet()),
    "U4": lambda: train(data=TensorDataset(*[t.repeat_interleave(2, 0) for t in _data().tensors])),
    "U5": lambda: train(data=TensorDataset(*[t.repeat_interleave(2, 0) for t in _data().tensors])),
    "U6": lambda: train(loss=contrastive),
    "D1": lambda: train(loss=of_tokens),
    "D2": lambda: train(NormNet()),
    "D3": lambda: train(ScaledNet()),
    "D6": lambda: train(SharedNet()),
    "D7": _not_a_number,
    "D8": lambda: train(dtype=torch.bfloat16),
    "D9": lambda: train(
        clipping="adaptive",
        target_unclipped_quantile=0.5,
        clipbound_learning_rate=0.2,
        max_clipbound=10.0,
        min_clipbound=0.1,
        unclipped_num_std=1.0,
    ),
    "D12": lambda: train(zero_grad=False),
    "N2": lambda: train(),  # torch.manual_seed(1), as transformers seeds with 42
    "N3": _replayed,
    "N4": lambda: train(dtype=torch.bfloat16),
    "N6": lambda: train(noise_multiplier=0.0),
    "N7": lambda: train(),
    "N8": lambda: train(each_step=_moved),
    "A1": _resumed,
    "A2": lambda: train(accountant="gdp"),
    "A3": lambda: train(delta=0.5),
    "A5": _resumed,  # a second run on the same rows
    "A8": lambda: train(accountant="rdp", noise_multiplier=100.0),
}


def outcome(name: str) -> str:
    """Return what opacus says to a fault: ``raises X``, ``warns`` or ``silent``."""
    expected = ("secure", "full backward hook", "backward hook", "torchcsprng", "jit", "vmap")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            FAULTS[name]()
        except Exception as error:
            return f"raises {type(error).__name__}"
    said = [
        str(one.message)
        for one in told
        if not any(word in str(one.message).lower() for word in expected)
    ]
    return f"warns: {said[0][:60]}" if said else "silent"


if __name__ == "__main__":
    for one in FAULTS:
        print(one, outcome(one))  # noqa: T201
