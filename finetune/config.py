"""Settings of this pillar. Importing them costs no torch, so that a typo is found in a second."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator


def _a_list_is_a_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_a_list_is_a_tuple)]


class Settings(
    BaseModel,
    frozen=True,
    strict=True,
    extra="forbid",
    allow_inf_nan=False,
    use_attribute_docstrings=True,
):
    """Frozen settings in which an unknown key, a wrong type, NaN and infinity are errors."""


class CheckpointConfig(Settings):
    """Which pretrained model is the base, and how its weights are held."""

    checkpoint: str
    """Hub id, folder, `file.gguf`, or `package:NAME/FILE` (a file in an installed package)."""

    revision: str | None = None
    """Commit of a Hub id: 40 hex digits. Required for a Hub id, refused otherwise."""

    quantization: Literal["nf4", "none"] = "nf4"
    """`nf4`: 4-bit NormalFloat, double quantisation (Dettmers et al. 2023); or `none`."""

    pooling: Literal["auto", "model", "mean", "cls"] = "auto"
    """Encoders: how a text's vectors become one. `mean` of all tokens, `cls` (the first), or
    `model`, transformers' own class; `auto` takes what the base's Sentence-Transformers files say,
    else `model`."""

    chat_template: str | None = None
    """File with a chat template (Jinja) to use in place of the base's own, relative to the recipe.
    It is part of the base: merged models have it, and an adapter is refused on another one. Not
    for classification."""

    trust_remote_code: Literal[False] = False
    """Always off: a checkpoint is data, and must not bring code to run."""


TEXT = "{text}"
"""Where a text stands in a prompt."""


class AdapterConfig(Settings):
    """Which layers get an adapter, and how large (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(16, ge=1, le=4096)
    """Inner dimension r of the update B @ A; trainable parameters grow linearly with it."""

    alpha: float = Field(32.0, gt=0)
    """The update is scaled by alpha / rank (or alpha / sqrt(rank) with `use_rslora`)."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""

    targets: Literal["all-linear"] | Names = "all-linear"
    """Names of the linear layers to adapt. A name that matches no layer is an error."""

    last_layers: int | None = Field(None, ge=1)
    """Adapt only so many blocks at the end of the model; null adapts all. Blocks below the first
    adapted one need no backward, and a private run adds noise to fewer numbers."""

    whiten_head: bool = False
    """Classification: train the head on features whitened by texts of our own, and fold that into
    its weights. For private runs: of a language model's features most of the energy lies in one
    direction, and noise drowns the others, and the adapter."""

    prompt: str | None = None
    """Classification: what the tokenizer puts around every text, with `{text}` where it stands, as
    in "{text}\\nIn short, the customer wants to". It goes with the tokenizer into the merged model.
    """

    head_start: Literal["auto", "probe", "zero", "random"] = "auto"
    """Encoders: where the layer with the classes begins. `probe` at a logistic regression on the
    frozen encoder's features (refused when private: it would release the rows without noise),
    `zero`, or `random`. `auto`: `probe`, and `zero` when private."""

    use_rslora: bool = False
    """Rank-stabilised scaling alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732)."""

    use_dora: bool = False
    """Weight-decomposed adaptation (Liu et al. 2024, arXiv:2402.09353). Refused when private."""

    init: Literal["default", "pissa"] = "default"
    """`pissa`: principal singular vectors (Meng et al. 2024, arXiv:2404.02948); needs
    `base.quantization: none`, because its residual would be quantised anew."""

    @model_validator(mode="after")
    def _one_variant(self) -> Self:
        if self.init == "pissa" and self.use_dora:
            raise ValueError("init: pissa and use_dora: true cannot be combined; choose one")
        if self.prompt is not None and self.prompt.count(TEXT) != 1:
            raise ValueError(f"prompt: wanted {TEXT} in it once, where the text stands")
        return self


class TrainConfig(Settings):
    """How the adapter is trained."""

    epochs: float = Field(3.0, gt=0)
    """Passes over the training rows."""

    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps, whatever `epochs` says; null takes the steps of the epochs."""

    batch_size: int = Field(16, ge=1)
    """Examples to one optimizer step, whatever fits in memory at once."""

    learning_rate: float = Field(2e-4, gt=0)
    """Peak learning rate of AdamW."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after the warm-up. Private runs do best with `constant`."""

    warmup_ratio: float = Field(0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises from 0."""

    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of AdamW."""

    max_grad_norm: float = Field(1.0, ge=0)
    """Clip of the whole gradient's norm in plain runs; private runs clip each example instead."""

    max_length: int = Field(1024, ge=8)
    """Longest example in tokens."""

    allow_truncation: bool = False
    """Whether an answer that does not fit in `max_length` may be cut. Off: it is an error."""

    max_tokens_per_micro_batch: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Padded tokens to one forward: what bounds memory. It does not change the result.
    `auto`: 1024 on a CPU, 8192 on a GPU."""

    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Recompute activations in the backward: less memory, slower. `auto`: on a GPU only."""

    class_weights: Literal["none", "balanced"] = "none"
    """Classification: weigh each class by n / (classes * its rows). Refused when private."""

    validation_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the training rows held back for the evaluation loss; 0 holds back none."""

    early_stopping: int | None = Field(None, ge=1)
    """Stop after so many evaluations without a lower loss. Refused when private."""

    evaluations_per_epoch: int = Field(1, ge=1)
    """How often the evaluation loss is measured; a checkpoint is saved each time."""

    save_every_seconds: int = Field(120, ge=1)
    """Beside that, save a checkpoint at least so often: what a crash can cost."""

    logging_steps: int = Field(5, ge=1)
    """Steps between two lines of `training.jsonl`."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the split, the order and the initial adapter. Not of a private run's noise."""

    num_threads: int | None = Field(None, ge=1)
    """CPU threads; null takes the cores that this process may use."""

    keep_checkpoints: bool = False
    """Keep the resumable checkpoints when the run is complete."""

    report_to: Names = ()
    """Trackers, passed through to transformers (`mlflow`, `tensorboard`, `wandb`, ...)."""
