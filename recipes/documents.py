"""The JSON documents of a run, each read in one place and held to its form.

A file of ours may have been cut by a copy, emptied by a full disk or edited by hand. What cannot be
what we wrote is refused here, with the file and the way out, and never met as a missing key by code
far away. Only the keys that other modules rely on are looked at; what older and newer versions
write beside them is kept. The values are returned as they stand in the file, because digests are
taken over them. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from eval.decision import Decision
from eval.policy import GatePolicy
from eval.task import Report
from finetune import merge_record
from recipes.errors import InputError, RunDiffers
from recipes.files import read_json

RECORD = "record.json"
MANIFEST = "data.json"
DECISION = "decision.json"
MERGE = "merged/merge.json"
EMPIRICAL = "empirical.json"
REPORT = "report.json"


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Base(_Form):
    identity: str
    checkpoint: str
    chat_template: str | None = None


class _Data(_Form):
    files: dict[str, str]
    fingerprint: str


class _Rows(_Form):
    train: int
    test: int
    dropped: int


class _Machine(_Form):
    cores: int
    memory_gb: float
    gpus: list[str]


class _Training(_Form):
    num_steps: int
    num_seconds: float
    num_parameters: int
    num_tokens: int | None = None
    adapter: str | None = None
    ledger_head: str | None = None


class _Canaries(_Form):
    commitment: str


class _Candidate(_Form):
    of: str
    into: str


class _SelfTest(_Form):
    name: str
    passed: bool
    detail: str


class _Units(_Form):
    unit: str
    num_units: int
    largest_num_rows: int
    column: str | None = None
    largest_num_rows_owned: int | None = None


class _Duplicates(_Form):
    num_near: int
    num_exact: int
    largest_family: int
    threshold: float
    words_per_shingle: int
    permutations: int


class _Record(_Form):
    """Of a run, as it stands in its folder and, without rows and places, in a release."""

    name: str
    recipe: str
    base: _Base
    data: _Data
    rows: _Rows
    seed: int
    is_private: bool
    started: str
    versions: dict[str, str]
    machine: _Machine
    quantization: str | None = None
    settings: dict[str, Any] | None = None
    training: _Training | None = None
    canaries: _Canaries | None = None
    candidate: _Candidate | None = None
    privacy_self_test: list[_SelfTest] | None = None
    privacy_units: _Units | None = None
    privacy_duplicates: _Duplicates | None = None
    rows_left_out: list[str] | None = None


class _RunRecord(_Record):
    source: str


class _Manifest(_Form):
    files: dict[str, str]
    fingerprint: str
    rows: _Rows
    train: list[str]
    validation: list[str]
    test: list[str]


_OF_A_FULL_PROOF = frozenset(
    (
        *("num_tensors_as_base", "p99_kl_nats", "noise_floor_p99_kl_nats", "update_survival"),
        *("worst_layer_cosine", "largest_rank", "reload_is_bit_identical"),
    )
)


class _FromEvaluated(_Form):
    mean_kl_nats: float
    top1_agreement: float


class _Proof(_Form):
    mean_kl_nats: float
    noise_floor_mean_kl_nats: float
    limit_mean_kl_nats: float
    top1_agreement: float
    num_positions: int
    as_loaded_mean_kl_nats: float | None = None
    p99_kl_nats: float | None = None
    noise_floor_p99_kl_nats: float | None = None
    update_survival: float | None = None
    worst_layer_cosine: float | None = None
    from_the_evaluated_model: _FromEvaluated | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Proof:
        extra = self.model_extra or {}
        if "num_tensors_changed" in extra and (
            missing := sorted(_OF_A_FULL_PROOF - self.model_fields_set)
        ):
            raise ValueError(f"lacks {', '.join(missing)}")
        return self


class _Storage(_Form):
    dtype: str
    why: str


class _AgainstAdapter(_Form):
    num_items: int
    num_answers_changed: int


class _Merge(_Form):
    into: str
    identity: str
    base: str
    adapter: str | None
    tensors: dict[str, int]
    proof: _Proof | None = None
    storage: _Storage | None = None
    chat_template: str | None = None
    is_new_candidate: bool | None = None
    note: str | None = None
    adapter_tensors_used_once: list[str] = []
    tasks_against_adapter: dict[str, _AgainstAdapter] = {}


class _Target(_Form):
    kind: str


class _Binds(_Form):
    candidate: str
    policy: str
    results: dict[str, str]


class _Decision(_Form):
    """Of this version of the gate, or of an earlier one, which bound nothing."""

    passed: bool
    target: _Target


class _Interval(_Form):
    value: float | None


class _Attack(_Form):
    statistic: str
    auc: _Interval


class _RowAttacks(_Form):
    attacks: list[_Attack]


class _OneRun(_Form):
    p_value: float | None
    confidence: float


class _CanaryAudit(_Form):
    commitment: str
    one_run: _OneRun
    void: list[str]


class _Empirical(_Form):
    verdict: str
    name: str
    is_private: bool
    epsilon: float | None
    delta: float
    canaries: _CanaryAudit | None
    rows: _RowAttacks | None = None
    """None in a release: what attacks on the rows told stays in the house."""


class _Sources(_Form):
    tasks: list[str]
    max: int | None


def record(run: Path) -> dict[str, Any]:
    """Return the record of a run.

    Raises:
        InputError: if it is missing, torn, or not the record of a run.
    """
    return _read(run / RECORD, _RunRecord, _bring_back(run))


def released_record(path: Path) -> dict[str, Any]:
    """Return the record of a run as a release holds it; errors as of `record`."""
    return _read(path, _Record, "take the release from where it was published")


def manifest(run: Path) -> dict[str, Any]:
    """Return what a run's rows were: data.json; errors as of `record`."""
    return _read(run / MANIFEST, _Manifest, _bring_back(run))


def merge(merged: Path) -> dict[str, Any]:
    """Return what a merged folder says of its making; errors as of `record`.

    Args:
        merged: the folder with the weights.

    Raises:
        RunDiffers: if it is not what was written, by its own digest.
    """
    way_out = f"remove the folder {merged} and merge again with: assay merge {merged.parent}"
    path = merged / Path(MERGE).name
    values = _read(path, _Merge, way_out)
    if not merge_record.is_as_written(values):
        raise RunDiffers(
            f"{path} has changed since it was written, by its own digest; {way_out}, or bring it "
            "back from a copy"
        )
    return values


def decision(path: Path) -> dict[str, Any]:
    """Return a decision of the gate, of whatever schema; errors as of `record`."""
    way_out = "delete it and decide again with: assay gate RUN"
    values = _read(path, _Decision, way_out)
    try:
        Decision.from_json(values)
        if values.get("schema") == 2:
            _Binds.model_validate(values["binds"])
            GatePolicy.model_validate(values["policy"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, _why(error), way_out) from None
    return values


def empirical(path: Path) -> dict[str, Any]:
    """Return what an empirical audit found; errors as of `record`."""
    way_out = "delete it and audit again with: assay audit RUN --empirical"
    return _read(path, _Empirical, way_out)


def sources(path: Path) -> dict[str, Any]:
    """Return what the tasks of an evaluation were read from; errors as of `record`."""
    return _read(path, _Sources, "delete it, or evaluate again with the same --task")


def config(model: Path) -> dict[str, Any]:
    """Return the configuration of a merged model; errors as of `record`."""
    return _mapping(model / "config.json", f"remove the folder {model} and merge again")


def report(evaluation: Path) -> dict[str, Any]:
    """Return the values of an evaluation's report; errors as of `record`."""
    path = evaluation / REPORT
    way_out = "delete its folder and evaluate again with: assay eval RUN"
    values = _mapping(path, way_out)
    try:
        Report.from_json(values)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, _why(error), way_out) from None
    return values


def _bring_back(run: Path) -> str:
    return f"bring the file back from a copy of {run}, or train anew with --fresh"


def _read(path: Path, form: type[_Form], way_out: str) -> dict[str, Any]:
    values = _mapping(path, way_out)
    try:
        form.model_validate(values)
    except ValidationError as error:
        raise _damaged(path, _why(error), way_out) from None
    return values


def _mapping(path: Path, way_out: str) -> dict[str, Any]:
    try:
        values = read_json(path)
    except InputError as error:
        raise InputError(f"{error}; {way_out}") from None
    if not isinstance(values, Mapping):
        raise _damaged(path, f"wanted an object, found a {type(values).__name__}", way_out)
    return dict(values)


def _damaged(path: Path, why: str, way_out: str) -> InputError:
    return InputError(f"{path} is damaged: {why}; {way_out}")


def _why(error: Exception) -> str:
    """Say what a file lacks, without what stands in it."""
    if isinstance(error, ValidationError):
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        shown = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong[:3]]
        return "; ".join(shown) + (f" ... and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]!r}"
    return f"it has another form ({type(error).__name__})"
