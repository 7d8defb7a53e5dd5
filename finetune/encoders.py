"""Classifiers on encoders: transformers' own, and one that reads the mean of all tokens.

Transformers' class reads a text through its first token and, in most kinds, a dense layer of its
own. Sentence encoders are trained to be read through the *mean* of all tokens (Reimers and
Gurevych 2019, arXiv:1908.10084), which no BERT class of transformers does: measured on BANKING77
with all-MiniLM-L6-v2, the mean is worth 1.7 points, and 4 to 7 under differential privacy.
`pooled_class` makes that model; merged, it is a folder of Sentence-Transformers.

B texts, T tokens, D width.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from finetune.encoder_kinds import ENCODERS, POOLED_HEAD, Pooling, heads_of


def head_modules(model: Any) -> tuple[str, ...]:
    """Return the modules of an encoder's classifier that are trained whole; none for others."""
    if isinstance(model, PooledClassifier):
        return heads_of(model.config.model_type, model.pooling)
    if model.config.model_type not in ENCODERS:
        return ()
    heads = heads_of(model.config.model_type, "model")
    return heads if hasattr(model, heads[-1]) else ()


def blocks_of(model: Any) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of an encoder's blocks: as many as its configuration says.

    Args:
        model: an encoder's classifier, without an adapter.
    """
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise AssertionError(f"a {type(model).__name__} holds no list of {count} blocks")


class PooledClassifier(PreTrainedModel):  # type: ignore[misc]
    """A linear head on the mean (or the first) of an encoder's last vectors.

    Abstract: `pooled_class` makes one for each kind of encoder.
    """

    pooling: Pooling = "mean"
    encoder_class: type[PreTrainedModel]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        # a dense layer on the first token would be read by nobody
        bare = "add_pooling_layer" in inspect.signature(self.encoder_class.__init__).parameters
        options = {"add_pooling_layer": False} if bare else {}
        setattr(self, self.base_model_prefix, self.encoder_class(config, **options))
        setattr(self, POOLED_HEAD, nn.Linear(config.hidden_size, config.num_labels))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Return logits, ``(B, classes)``; arguments as in transformers' classifiers."""
        hidden_BTD = getattr(self, self.base_model_prefix)(
            input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds
        ).last_hidden_state
        pooled_BD = pool(hidden_BTD, attention_mask, self.pooling)
        logits_BC = getattr(self, POOLED_HEAD)(pooled_BD)
        return SequenceClassifierOutput(logits=logits_BC)


def pool(hidden_BTD: Tensor, attention_mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Return one vector a text, ``(B, D)``: the first token's, or the mean of all but padding."""
    if pooling == "cls":
        return hidden_BTD[:, 0]
    if attention_mask is None:
        return hidden_BTD.mean(1)
    mask_BT1 = attention_mask.unsqueeze(-1).to(hidden_BTD.dtype)
    return (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)


@functools.cache
def pooled_class(encoder: type[PreTrainedModel], pooling: Pooling) -> type[PooledClassifier]:
    """Return the pooled classifier on one kind of encoder, as transformers loads its own.

    Args:
        encoder: its base class, such as ``BertModel``.
        pooling: ``mean`` or ``cls``.
    """
    name = f"{encoder.__name__.removesuffix('Model')}For{pooling.capitalize()}Pooling"
    return type(
        name,
        (PooledClassifier, encoder.__mro__[1]),  # what tells transformers how weights begin
        {
            "pooling": pooling,
            "encoder_class": encoder,
            "base_model_prefix": encoder.base_model_prefix,
            "__module__": __name__,
        },
    )
