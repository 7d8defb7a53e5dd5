"""One gradient per record, from a linear layer that never sums over records.

The gradient of a linear layer's weight is a sum over records and positions of an outer product.
Leaving the sum over records out costs the same arithmetic: for input ``x`` and output gradient
``g`` of one layer, record n contributes sum_t g_nt x_nt^T (Li et al. 2021, arXiv:2110.05679,
section 4.1, without the ghost norm: with LoRA, instantiating is the cheaper of the two unless a
record has fewer positions than the adapter has ranks).

Everything is refused that this rule does not cover, by the name of the parameter: a trainable
tensor outside the clipping bound is a model without a guarantee. And the raw sum over records
never exists: autograd is told that a weight has no gradient, so a ``grad`` that appears on one
nevertheless came by a path that was not clipped, and is refused as well.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from privacy.errors import PrivacyError


def covered_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """List the trainable parameters of a model, all of which can be clipped per record.

    Covered are the weight and bias of a plain ``nn.Linear``, which is what peft builds LoRA's A
    and B and a saved classification head from.

    Returns:
        Parameters by name, in the model's order; a shared one appears once.

    Raises:
        PrivacyError: naming the first trainable parameter that is something else, or that a
            module of another kind shares (a tied embedding), or if nothing is trainable.
    """
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            where = f"{path}.{name}" if path else name
            if not parameter.requires_grad:
                continue
            if type(module) is not nn.Linear:
                raise PrivacyError(
                    f"{where} is trainable and belongs to a {type(module).__name__}; gradients "
                    "per record exist for nn.Linear alone, so its share would go unclipped. Use "
                    "plain LoRA on linear layers (no DoRA, no embeddings), or freeze it."
                )
            if "forward" in vars(module):
                raise PrivacyError(
                    f"{where} belongs to a layer whose forward was replaced (a hook of another "
                    "library, or gradients per record attached twice). Remove the hook first."
                )
    found = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise PrivacyError("Nothing is trainable in this model. Add an adapter before training.")
    return found


class PerRecord:
    """Gradients per record for every trainable parameter of one model.

    For each micro-batch: a forward, :meth:`begin`, a backward of the *sum* of the records'
    losses, :meth:`gradients`. Exact under no, reentrant and non-reentrant checkpointing. A layer
    that computes in bfloat16 has gradients that are summed over positions in float32 and rounded
    to bfloat16 once, which is what autograd does with their sum over records.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> per_record = PerRecord()
        >>> per_record.attach(layer)
        >>> loss = layer(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum()
        >>> per_record.begin(num_records=2)
        >>> loss.backward()
        >>> per_record.gradients()[0].tolist()
        [[[1.0, 2.0]], [[3.0, 4.0]]]
        >>> layer.weight.grad is None
        True
    """

    def __init__(self) -> None:
        self._parameters: dict[str, nn.Parameter] = {}
        self._names: dict[int, str] = {}  # by id: a parameter compares elementwise
        self._layers: list[nn.Linear] = []
        self._slots: dict[int, Tensor] = {}
        self._num_records: int | None = None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The covered parameters by name, in the order of :meth:`gradients`."""
        return dict(self._parameters)

    def attach(self, model: nn.Module) -> None:
        """Take over every linear layer that holds a trainable parameter.

        Raises:
            PrivacyError: if a trainable parameter is not covered (:func:`covered_parameters`), or
                this object is attached already.
        """
        if self._layers:
            raise PrivacyError("Gradients per record are attached already; call detach() first.")
        self._parameters = covered_parameters(model)
        self._names = {id(p): name for name, p in self._parameters.items()}
        for module in model.modules():
            if any(id(p) in self._names for p in module.parameters(recurse=False)):
                assert isinstance(module, nn.Linear)  # noqa: S101 - covered_parameters saw to it
                # A partial of a plain function, so that a deep copy of the model calls itself.
                module.forward = functools.partial(_forward, self, module)  # type: ignore[method-assign]
                self._layers.append(module)

    def detach(self) -> None:
        """Give the layers back as they were. Does nothing where nothing is attached."""
        for layer in self._layers:
            del layer.forward
        self._layers = []
        self.forget()

    def begin(self, num_records: int) -> None:
        """Expect the backward of one micro-batch, and forget the one before."""
        if num_records < 1:
            raise ValueError(f"num_records must be 1 or more, got {num_records!r}")
        self.forget()
        self._num_records = num_records

    def forget(self) -> None:
        """Drop the gradients of a micro-batch that was broken off, and their memory with them."""
        self._num_records = None
        self._slots = {}

    def gradients(self) -> list[Tensor]:
        """Hand over the gradients of the micro-batch; each is ``(records, *parameter.shape)``.

        A parameter that the loss did not reach has zeros. Values have the precision that the
        layer computed in, and float32 at least where it was called more than once.

        Raises:
            PrivacyError: if a gradient reached a parameter past the clipped path.
            RuntimeError: if no gradient reached any parameter, or :meth:`begin` was not called.
        """
        if self._num_records is None:
            raise RuntimeError("gradients() without begin()")
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                raise PrivacyError(
                    f"{name} received a gradient that is summed over records: something uses the "
                    "weight other than by calling its layer, so that share would go unclipped. "
                    "Do not adapt this layer (an output head read by a fused loss, for one)."
                )
        if not self._slots:
            raise RuntimeError(
                "No gradient reached any trainable parameter. With reentrant checkpointing, call "
                "model.enable_input_require_grads()."
            )
        found = []
        for parameter in self._parameters.values():
            slot = self._slots.pop(id(parameter), None)
            if slot is None:
                slot = parameter.new_zeros((self._num_records, *parameter.shape)).float()
            found.append(slot)
        self._num_records = None
        return found

    def _add(self, parameter: nn.Parameter, contribution: Tensor) -> None:
        slot = self._slots.get(id(parameter))
        if slot is not None:  # the layer, or a tied one, was called before
            wide = torch.promote_types(slot.dtype, torch.float32)
            contribution = slot.to(wide) + contribution
        self._slots[id(parameter)] = contribution

    def _check_records(self, x: Tensor, layer: nn.Linear) -> None:
        if self._num_records is None:
            raise PrivacyError("A backward ran outside begin() and gradients().")
        if x.dim() < 2 or x.shape[0] != self._num_records:
            name = self._names.get(id(layer.weight)) or self._names.get(id(layer.bias), "a layer")
            raise PrivacyError(
                f"{name} saw an input of shape {tuple(x.shape)} for {self._num_records} records. "
                "The first dimension must be the record: packing, padding-free batches and layers "
                "that flatten positions (experts, some heads) would be clipped per token. Do not "
                "adapt this layer, or turn packing off."
            )


def _forward(per_record: PerRecord, layer: nn.Linear, x: Tensor) -> Tensor:
    out: Tensor = _PerRecordLinear.apply(  # type: ignore[no-untyped-call]
        x, layer.weight, layer.bias, per_record, layer
    )
    return out


class _PerRecordLinear(torch.autograd.Function):
    """``F.linear`` whose backward fills per-record slots and returns no gradient of its weight.

    Tensors go through ``save_for_backward``, which is what lets both kinds of checkpointing drop
    and recompute them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        per_record: PerRecord,
        layer: nn.Linear,
    ) -> Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            # By hand: autocast would keep its copy of the weight, made here without a graph, and
            # hand it to a later use of the same weight, which would then lose its gradient.
            dtype = torch.get_autocast_dtype(kind)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        ctx.save_for_backward(x, weight)
        ctx.per_record, ctx.layer = per_record, layer
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        x, weight = ctx.saved_tensors
        per_record, layer = ctx.per_record, ctx.layer
        per_record._check_records(x, layer)
        if torch.is_autocast_enabled(x.device.type):
            # Whoever leaves autocast on around a backward gets the arithmetic of the forward. Asked
            # first, because entering the context costs more than a small layer's product.
            with torch.autocast(x.device.type, enabled=False):
                return _backward(ctx, x, weight, g)
        return _backward(ctx, x, weight, g)


def _backward(
    ctx: Any, x: Tensor, weight: Tensor, g: Tensor
) -> tuple[Tensor | None, None, None, None, None]:
    layer, per_record = ctx.layer, ctx.per_record
    if layer.weight.requires_grad:
        left = _by_record(g).mT
        if left.shape[1] < weight.shape[1]:  # LoRA's A: few rows, read more than once
            left = left.contiguous()
        # einsum and matmul say the same, slower: they ask at every call what they are to do
        per_record._add(layer.weight, torch.bmm(left, _by_record(x)))
    if layer.bias is not None and layer.bias.requires_grad:
        per_record._add(layer.bias, _by_record(g).sum(1))
    # Last, so that it is still in the cache when autograd adds it to the frozen path's
    grad_x = g @ weight if ctx.needs_input_grad[0] else None
    return grad_x, None, None, None, None


def _by_record(x: Tensor) -> Tensor:
    """Reshape ``(records, ..., features)`` to ``(records, positions, features)``."""
    return x.reshape(len(x), -1, x.shape[-1])
