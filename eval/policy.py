"""What a release must satisfy: the gate section of a recipe, as frozen settings.

A policy says what is asked; `eval.gate` says whether it holds. Rules on figures may be marked
overridable. Rules on privacy, on evidence and on digests cannot: they have no such key.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from eval.task import Family

FAMILIES: tuple[Family, ...] = ("accuracy", "bias", "hallucination")

ONE_RULE, SEVERAL_RULES = "one rule", "a list of rules"
"""The two forms of a family's rules, as pydantic names them in the place of an error."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

NamedEvidence = Literal["merge_proof", "privacy_self_test", "privacy_statement"]
EVIDENCE: tuple[NamedEvidence, ...] = ("merge_proof", "privacy_self_test", "privacy_statement")

_COMPARED = (
    "not_worse_than_base_by",
    "better_than_base_by",
    "not_worse_than_release_by",
    "better_than_release_by",
)
_BOUNDS = ("at_least", "at_most", *_COMPARED)


class _Asked(
    BaseModel,
    frozen=True,
    strict=True,
    extra="forbid",
    allow_inf_nan=False,
    use_attribute_docstrings=True,
):
    """What a policy is made of: unknown keys, NaN and numbers in quotes are refused."""


class Rule(_Asked):
    """What one metric must satisfy, at the pessimistic end of its interval."""

    metric: str
    """The metric's name, or ``task/metric`` where several tasks of the family have one."""

    at_least: float | None = None
    """The lower end of the interval must reach this; for metrics where higher is better."""

    at_most: float | None = None
    """The upper end of the interval must not exceed this; for metrics where lower is better."""

    not_worse_than_base_by: float | None = Field(None, ge=0)
    """Margin that even the pessimistic end of the paired difference to the base must keep."""

    better_than_base_by: float | None = Field(None, ge=0)
    """Margin that even the pessimistic end of the paired difference to the base must exceed."""

    release: str | None = None
    """An earlier release to compare with: its folder, or a run folder; from the recipe's folder."""

    not_worse_than_release_by: float | None = Field(None, ge=0)
    """As `not_worse_than_base_by`, with the earlier release in the base's place."""

    better_than_release_by: float | None = Field(None, ge=0)
    """As `better_than_base_by`, with the earlier release in the base's place."""

    min_items: int = Field(20, ge=1)
    """Fewer items than this behind a figure are a refusal."""

    overridable: bool = False
    """Whether a person may let a model pass that misses this; see ``assay gate --override``."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Rule:
        if not any(True for _ in self.bounds()):
            raise ValueError(
                f"the rule on {self.metric!r} asks for nothing; set one of {', '.join(_BOUNDS)}"
            )
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"no {self.metric!r} is at least {self.at_least} and at most {self.at_most}"
            )
        needs_release = any("release" in key for key, _ in self.bounds())
        if needs_release and not self.release:
            raise ValueError(
                f"the rule on {self.metric!r} compares with an earlier release and names none; set "
                "release to its folder"
            )
        if self.release is not None and not needs_release:
            raise ValueError(
                f"the rule on {self.metric!r} names an earlier release and asks nothing of it; set "
                "not_worse_than_release_by or better_than_release_by"
            )
        return self

    def bounds(self) -> Iterator[tuple[str, float]]:
        """Yield each bound that is set, by its key, in the order in which they are checked."""
        for key in _BOUNDS:
            if (bound := getattr(self, key)) is not None:
                yield key, bound


def _form_of(value: object) -> str:
    return SEVERAL_RULES if isinstance(value, list | tuple) else ONE_RULE


def _a_list_is_a_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


_Several = Annotated[tuple[Rule, ...], BeforeValidator(_a_list_is_a_tuple)]
Rules = Annotated[
    Annotated[Rule, Tag(ONE_RULE)] | Annotated[_Several, Tag(SEVERAL_RULES)],
    Discriminator(_form_of),
]
"""One rule, or a list of them."""


class PrivacyRule(_Asked):
    """How much privacy the run may have spent. Never overridable."""

    epsilon_at_most: float = Field(gt=0)
    """Largest epsilon, at the run's own delta. A run that is not private has none and fails."""


class BudgetRule(_Asked):
    """What the model may cost. Figures without an interval: each is held as it was recorded."""

    size_gb_at_most: float | None = Field(None, gt=0)
    """Bytes of what would leave, in 1e9: the adapter's folder, and once merged the merged one."""

    seconds_per_item_at_most: float | None = Field(None, gt=0)
    """Seconds of the evaluation over its items, on the machine that evaluated; of one that was not
    interrupted, as cost.json has them."""

    overridable: bool = False
    """Whether a person may let a model pass that misses this; see ``assay gate --override``."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> BudgetRule:
        if self.size_gb_at_most is None and self.seconds_per_item_at_most is None:
            raise ValueError("a budget of nothing; set size_gb_at_most or seconds_per_item_at_most")
        return self


class EqualRule(_Asked):
    """Digests that must be exactly these. Never overridable."""

    base: Digest | None = None
    """Identity of the base, as record.json has it."""

    training_data: Digest | None = None
    """Fingerprint of the training rows, as record.json has it."""

    tasks: dict[str, Digest] = Field(default_factory=dict)
    """Fingerprint of a task's items, by task, as report.json has it."""

    policy: Digest | None = None
    """Digest of this gate section without this line; a wrong one is answered with the right one."""

    def wanted(self) -> dict[str, str]:
        """Return the digests that are asked for, by name; a task's is ``tasks.NAME``."""
        plain = {key: getattr(self, key) for key in ("base", "training_data", "policy")}
        return {key: digest for key, digest in plain.items() if digest is not None} | {
            f"tasks.{name}": digest for name, digest in self.tasks.items()
        }


class ApprovalRule(_Asked):
    """Who must have said yes, with a key of their own, before a model is merged or shipped."""

    keys: Annotated[tuple[str, ...], BeforeValidator(_a_list_is_a_tuple)] = Field(min_length=1)
    """Public keys (PEM files, from the recipe's folder) of those who may approve."""

    at_least: int = Field(1, ge=1)
    """How many of them must."""

    @model_validator(mode="after")
    def _can_be_had(self) -> ApprovalRule:
        if self.at_least > len(self.keys):
            raise ValueError(f"{self.at_least} approvals are asked of {len(self.keys)} keys")
        return self


class GatePolicy(_Asked):
    """What must hold before a model may leave. A family that is not named is not asked about."""

    accuracy: Rules | None = None
    """On any task of the accuracy family: one rule, or a list."""

    bias: Rules | None = None
    """On any task of the bias family: one rule, or a list."""

    hallucination: Rules | None = None
    """On any task of the hallucination family: one rule, or a list."""

    privacy: PrivacyRule | None = None
    """On the run's privacy ledger."""

    budget: BudgetRule | None = None
    """On size and time."""

    evidence: Annotated[tuple[str, ...], BeforeValidator(_a_list_is_a_tuple)] = ()
    """Evidence that must exist: `merge_proof`, `privacy_self_test`, `privacy_statement`, or
    `FILE.json` or `FILE.json:key.of.it` in the run folder. What only a merge makes (`merge_proof`,
    files of `merged/`) is asked of the merged model alone."""

    equal: EqualRule | None = None
    """Digests that must be exactly these."""

    approval: ApprovalRule | None = None
    """Who must approve; without this nobody is asked."""

    @field_validator("evidence")
    @classmethod
    def _is_evidence(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            file, _, key = name.partition(":")
            is_file = file.endswith((".json", ".jsonl")) and not (":" in name and not key)
            if name not in EVIDENCE and not is_file:
                near = difflib.get_close_matches(name, EVIDENCE, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(EVIDENCE)}"
                raise ValueError(f"{name!r} is no evidence; {hint} (or name FILE.json:key)")
            parts = re.split(r"[/\\]", file)  # on Windows both divide a path
            if file.startswith("~") or not parts[0] or ".." in parts:
                raise ValueError(f"{name!r} leaves the run folder; name a file in it")
        return names

    @model_validator(mode="after")
    def _asks_nothing_twice(self) -> GatePolicy:
        names = [name for family in FAMILIES for name in map(str, self._names(family))]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"asked twice: {', '.join(sorted(twice))}; keep one bound of each")
        paths = {rule.release for family in FAMILIES for rule in self.rules(family)} - {None}
        called = Counter(release_name(str(path)) for path in paths)
        if alike := [name for name, count in called.items() if count > 1]:
            raise ValueError(
                f"several earlier releases are called {', '.join(sorted(alike))}, which is how a "
                "decision tells them apart; rename their folders"
            )
        return self

    def rules(self, family: Family) -> tuple[Rule, ...]:
        """Return a family's rules in the order written; none where it is not named."""
        found: Rule | tuple[Rule, ...] | None = getattr(self, family)
        if found is None:
            return ()
        return (found,) if isinstance(found, Rule) else found

    def evidence_of(self, kind: str) -> tuple[str, ...]:
        """Return the evidence asked of a target of this kind, as `evidence` says."""
        of_merge = ("merged/", "eval/merged/")
        return tuple(
            name
            for name in self.evidence
            if kind == "merged" or not (name == "merge_proof" or name.startswith(of_merge))
        )

    def _names(self, family: Family) -> Iterator[str]:
        for rule in self.rules(family):
            for key, _ in rule.bounds():
                yield name_of(family, rule, key)


def name_of(family: Family, rule: Rule, key: str) -> str:
    """Return the name of one bound, by which an override names it.

    Example:
        >>> name_of("accuracy", Rule(metric="f1", at_least=0.5), "at_least")
        'accuracy/f1/at_least'
    """
    other = [release_name(rule.release or "")] if "release" in key else []
    return "/".join([family, rule.metric, key, *other])


def release_name(path: str) -> str:
    """Return an earlier release's name: that of its folder, without the path to it.

    Example:
        >>> release_name("../releases/march/")
        'march'
    """
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
