"""Private training as some tool did it, described in neutral words.

Every field may be left out; what is unknown is reported as not checked, never as passed. The words
are those of the check-list in `privacy.check_described`.
"""

from typing import Literal

from pydantic import Field

from privacy.settings import Settings

__all__ = ["Described"]


class Described(Settings):
    """Settings and facts of a private run of any tool. Unknown fields are errors."""

    tool: str | None = None
    """Name and version, for the heading."""

    # what was claimed
    reported_epsilon: float | None = Field(None, gt=0)
    """Epsilon as the tool reports it."""
    delta: float | None = Field(None, gt=0, lt=1)
    """Chance outside the bound."""
    adjacency: Literal["add-or-remove-one", "replace-one", "zero-out"] | None = None
    """Neighbouring relation of the claim."""
    accountant: Literal["pld", "prv", "rdp", "gdp"] | None = None
    """Which accountant the claim comes from."""
    accountant_value: Literal["upper", "estimate", "lower"] | None = None
    """Which end of its own error the figure is."""
    accountant_relation: Literal["add-or-remove-one", "replace-one", "zero-out"] | None = None
    """Neighbouring relation that the accountant really computed."""
    order_grid_end_hit: bool | None = None
    """Whether the RDP accountant warned that its best order is the largest or smallest it tried."""
    n_claimed_private: bool | None = None
    """Whether the number of examples is claimed to be protected, though the rate comes from it."""
    accounted_sampling: Literal["poisson", "shuffle", "fixed-size", "none"] | None = None
    """Sampling that the accountant assumed."""
    accounted_sample_rate: float | None = Field(None, gt=0, le=1)
    """Sample rate that the accountant was given."""
    accounted_steps: int | None = Field(None, ge=0)
    """Steps that the accountant was given."""
    survives_resume: bool | None = None
    """Whether the account goes on after a restart."""

    # the data
    num_examples: int | None = Field(None, ge=1)
    """Training examples n."""
    unit: str | None = None
    """What is protected: ``example`` or a column."""
    max_rows_per_person: int | None = Field(None, ge=1)
    """Most rows that one person owns."""
    copies_per_example: int | None = Field(None, ge=1)
    """Rows that one source row became, by chunking, augmentation or splitting of turns."""
    runs_on_same_data: int | None = Field(None, ge=1)
    """Runs, sweeps and adapters on this data, this one included."""
    runs_accounted: int | None = Field(None, ge=1)
    """How many of them the claim counts."""

    # batches
    sampling: Literal["poisson", "shuffle", "fixed-size", "sequential", "streaming"] | None = None
    """How batches were really drawn."""
    grouped_by_length: bool | None = None
    """Whether rows of like length were put together."""
    sample_rate: float | None = Field(None, gt=0, le=1)
    """Chance of an example to enter a batch."""
    steps: int | None = Field(None, ge=1)
    """Noisy steps taken."""
    max_batch: int | None = Field(None, ge=1)
    """Cap beyond which drawn examples are dropped."""
    empty_draws: Literal["step", "skipped"] | None = None
    """What an empty draw leads to."""
    draws_per_noise: int | None = Field(None, ge=1)
    """Independent draws summed under one noise, as by gradient accumulation."""
    max_record_multiplicity: int | None = Field(None, ge=1)
    """How often one record may enter one noisy sum."""
    num_processes: int | None = Field(None, ge=1)
    """Processes that train together."""
    sampler_seed: Literal["os", "per-process", "same-everywhere"] | None = None
    """What the draws are seeded by."""
    even_batches: bool | None = None
    """Whether records are repeated to fill processes."""
    logs_drawn_rows: bool | None = None
    """Whether the numbers of drawn rows are logged."""

    # sensitivity
    packing: bool | None = None
    """Whether several rows share a sequence."""
    padding_free: bool | None = None
    """Whether a batch is one long sequence."""
    gradient_rows: Literal["records", "tokens", "batch"] | None = None
    """What one row of the clipped gradients is."""
    loss_average: Literal["per-record", "tokens-of-batch", "batch"] | None = None
    """What a record's loss is divided by."""
    coupling_losses: tuple[str, ...] | None = None
    """Layers or losses that mix records: batch norm, contrastive, expert balancing."""
    compares_records: bool | None = None
    """Whether a loss compares records: preference groups of one prompt, in-batch negatives."""
    used_past_their_layer: tuple[str, ...] | None = None
    """Trained weights that are also read by something else than their clipped layer."""
    trainable: tuple[str, ...] | None = None
    """Names of the trained tensors."""
    clipped: tuple[str, ...] | None = None
    """Names of the tensors under the clipping bound."""
    clipping: Literal["per-record", "per-micro-batch", "per-layer", "adaptive"] | None = None
    """What is clipped."""
    clipping_norm: float | None = Field(None, gt=0)
    """The bound C that noise is measured by."""
    layer_norms: tuple[float, ...] | None = None
    """Bounds of each layer, for clipping per layer."""
    gradient_dtype: Literal["float64", "float32", "bfloat16", "float16"] | None = None
    """Precision of norms and clipping."""
    non_finite: Literal["zeroed", "propagated", "step-skipped"] | None = None
    """What a NaN gradient of one record leads to."""
    denominator: Literal["constant", "batch-size", "batch-tokens"] | None = None
    """What a noisy sum is divided by."""
    stale_gradients: bool | None = None
    """Whether gradients of the step before can remain."""

    # noise
    noise_multiplier: float | None = Field(None, ge=0)
    """Noise standard deviation / clipping norm."""
    noise_seed: Literal["os", "known", "same-everywhere"] | None = None
    """What the noise is seeded by."""
    generator: Literal["cryptographic", "framework"] | None = None
    """Kind of generator of the noise."""
    called_secure: bool | None = None
    """Whether the tool says that its generator is secure."""
    noise_drawn: Literal["per-step", "per-micro-batch", "per-process"] | None = None
    """How often noise is drawn."""
    noise_dtype: Literal["float64", "float32", "bfloat16", "float16"] | None = None
    """Precision of the noise and of the parameters it is added to."""
    rng_state_in_checkpoint: bool | None = None
    """Whether a checkpoint holds generator states, so that noise is drawn again on resume."""
    other_updates: tuple[str, ...] | None = None
    """Updates of trained tensors beside the noisy one."""

    # releases beside the model
    logged: tuple[str, ...] | None = None
    """Figures of private batches that are logged: loss, grad_norm, accuracy, num_tokens."""
    early_stopping: bool | None = None
    """Whether private rows decide when to stop."""
    load_best_model: bool | None = None
    """Whether private rows choose the checkpoint."""
    trials_on_private_data: int | None = Field(None, ge=0)
    """Hyper-parameter trials judged by private rows and not accounted."""
    validation_is_private: bool | None = None
    """Whether figures on private held-back rows are published."""
    vocabulary_from_data: bool | None = None
    """Whether tokenizer, label map or filters were learned from private rows."""
    class_weights: bool | None = None
    """Whether weights are counts of private labels."""
    adapter_init: str | None = None
    """First values of the adapter, as peft calls them."""
    checkpoints_hold: tuple[str, ...] | None = None
    """What checkpoints hold beside released values: norms, raw gradients, data loader states."""
    rows_left_behind: bool | None = None
    """Whether caches, crash dumps or a model card hold private rows."""
    says_prompts_not_covered: bool | None = None
    """Whether it is said that prompts at use are not protected."""
    calibrated_on_data: bool | None = None
    """Whether export (GPTQ, AWQ, imatrix) was calibrated on private rows."""
    private_prompts: bool | None = None
    """Whether shipped prompts or indexes hold private rows."""
    base_saw_data: bool | None = None
    """Whether the base was trained on the same data without privacy."""
