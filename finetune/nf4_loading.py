"""How transformers is told to quantise a base as its record says, one tensor at a time.

transformers lets others register a quantiser. This one is its own for bitsandbytes in all but three
things: the numbers of a layer are the file's, whatever type the rest is computed in; the codes come
from `finetune.quantization.quantize_as`; and layers that do not fit NF4's blocks stay as they are.
What is loaded is in nothing else different from what `BitsAndBytesConfig` gives.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.integrations.bitsandbytes import Bnb4bitQuantize
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    AUTO_QUANTIZER_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.utils.quantization_config import QuantizationMethod

from finetune import nf4
from finetune.encoder_kinds import is_inside
from finetune.encoders import head_modules
from finetune.errors import InputError, IntegrityError
from finetune.quantization import Quantization, layer_fingerprint, quantize_as

_METHOD = "assay_nf4"


# transformers refuses a second registration, and this module may be loaded anew
AUTO_QUANTIZATION_CONFIG_MAPPING.pop(_METHOD, None)
AUTO_QUANTIZER_MAPPING.pop(_METHOD, None)


@register_quantization_config(_METHOD)
class NF4Config(BitsAndBytesConfig):  # type: ignore[misc]
    """Pass it as ``quantization_config`` to `from_pretrained`, once."""

    failure: Exception | None = None
    """Why quantising failed; transformers raises an error of its own that does not say it."""

    def __init__(self, held: Quantization, dtype: torch.dtype) -> None:
        """Quantise as a record says, and compute in a type of our own."""
        super().__init__(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        self.quant_method = _METHOD
        self._held = held

    def __deepcopy__(self, memo: dict[int, Any]) -> NF4Config:
        """Stay one object: transformers copies what it is given, and `failure` would be lost."""
        del memo
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {key: value for key, value in super().to_dict().items() if key != "_held"}

    def quantize(self, layer: str, weight: Tensor) -> tuple[Tensor, Any]:
        """Return a layer's codes and state, held against the record if it knows them.

        Raises:
            InputError: if the weight holds NaN or infinity.
            IntegrityError: if the record knows other codes.
        """
        held = self._held
        try:
            codes, state = quantize_as(held, layer, weight)
        except InputError as error:
            raise InputError(
                f"the weight of the layer {layer} cannot be quantised: {error}; the base is damaged"
            ) from None
        wanted = held.layer_code(layer)
        if wanted and (found := layer_fingerprint(codes, state, held.version)) != wanted:
            raise IntegrityError(
                f"quantising the layer {layer} gives the 4-bit codes {found}, and the adapter was "
                f"trained on {wanted} (by {held.library}); "
                + (
                    "its record is of version 1, whose codes depend on the machine. Use it on a "
                    "machine of the kind it was trained on, or train it again"
                    if held.version == 1
                    else "the base's files were changed, or this library quantises otherwise: "
                    "install the one that the record names"
                )
            )
        state.dtype = self.bnb_4bit_compute_dtype
        return codes, state

    def leaves(self, module: nn.Module) -> bool:
        """Return whether a linear layer is left unquantised, because blocks would span its rows."""
        if self._held.version == 1 or not isinstance(module, nn.Linear | Conv1D):
            return False
        shape = tuple(module.weight.shape)
        return not nf4.fits(shape[::-1] if isinstance(module, Conv1D) else shape)


class _Quantize(Bnb4bitQuantize):  # type: ignore[misc]
    """Makes the 4-bit parameter of one layer."""

    def convert(
        self, input_dict: dict[str, Any], model: Any = None, **_: Any
    ) -> dict[str, Params4bit]:
        """Return the parameter by its name."""
        found = {}
        config = self.hf_quantizer.quantization_config
        for name, values in input_dict.items():
            weight = values[0] if isinstance(values, list) else values
            layer = name.removesuffix(".weight")
            module = model.get_submodule(layer)
            if issubclass(module.source_cls, Conv1D):
                weight = weight.T
            try:
                codes, state = config.quantize(layer, weight)
            except (InputError, IntegrityError) as error:
                config.failure = config.failure or error
                raise
            settings = module.weight.__dict__ | {"quant_state": state, "bnb_quantized": True}
            found[name] = Params4bit(codes, requires_grad=False, **settings)
            module.quant_state = state
            module._is_hf_initialized = True
        return found


@register_quantizer(_METHOD)
class NF4Quantizer(Bnb4BitHfQuantizer):  # type: ignore[misc]
    """transformers' quantiser for bitsandbytes, with the codes of `NF4Config.quantize`."""

    def _process_model_before_weight_loading(
        self, model: Any, device_map: Any = None, **options: Any
    ) -> None:
        config = self.quantization_config
        left = [name for name, module in model.named_modules() if config.leaves(module)]
        # transformers spares only a decoder's head by itself
        left += [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and is_inside(name, head_modules(model))
        ]
        if left:
            config.llm_int8_skip_modules = [
                *get_keys_to_not_convert(model),
                *(f"{re.escape(name)}$" for name in left),
            ]
        super()._process_model_before_weight_loading(model, device_map, **options)
        quantised = [n for n, m in model.named_modules() if isinstance(m, Linear4bit)]
        if not quantised:
            raise InputError(
                "the model has no linear layer whose width is a multiple of 64, which NF4's blocks "
                "need; set base.quantization: none"
            )
        # a layer comes here in float32, which holds the file's numbers, not in the compute type
        self._kept = model._keep_in_fp32_modules_strict
        names = "|".join(re.escape(f"{name}.weight") for name in quantised)
        model._keep_in_fp32_modules_strict = {*(self._kept or ()), f"^(?:{names})$"}

    def _process_model_after_weight_loading(self, model: Any, **options: Any) -> Any:
        model._keep_in_fp32_modules_strict = self._kept
        # from here on it is a model with layers of bitsandbytes, as every library knows them
        model.quantization_method = QuantizationMethod.BITS_AND_BYTES
        model.config.quantization_config.quant_method = QuantizationMethod.BITS_AND_BYTES
        return super()._process_model_after_weight_loading(model, **options)

    def get_quantize_ops(self) -> _Quantize:
        """Return what makes a layer's parameter."""
        return _Quantize(self)
