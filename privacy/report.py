"""The privacy report: 23 fields, each figure with the place that it was read from.

Fields and their order are those of section 6 of the survey behind this package, whose frame is
NIST SP 800-226 (2025), the EDPB's opinion 28/2024 and article 35 of the GDPR. The report is
evidence for people who decide; it certifies nothing. What nobody recorded is said to be not
recorded, with who could say it, and is never made up.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from privacy.checklist import Severity, Status
from privacy.settings import Settings

SCHEMA: Literal[1] = 1


class Part(Settings):
    """A part of the report."""


class Known(Part):
    """A value, and the file and key (or ledger line, or function) that it comes from."""

    value: float | int | str | bool
    """A number without a bound is the text ``unbounded``."""

    source: str = Field(min_length=1)


class Missing(Part):
    """What nobody recorded."""

    missing: str
    """Why it is not there."""

    to_be_completed_by: str | None = None
    """Who can say it; None where a machine could, and did not."""


Stated = Annotated[Known | Missing, Field(union_mode="smart")]


class Claim(Part):
    """The claim in one sentence."""

    sentence: Stated
    """The claim."""
    released: Stated
    """What is covered by it."""


class Unit(Part):
    """Whose data is protected, and how that is enforced."""

    unit: Stated
    """One of these is protected."""
    enforced_by: Stated
    """How it is enforced."""
    num_units: Stated
    """How many there are."""
    largest_num_rows: Stated
    """Most rows that one person, or one unit, owns."""
    rows_cut: Stated
    """Rows left out so that a unit stays within its bound."""


class Adjacency(Part):
    """Which two data sets are to be told apart."""

    relation: Stated
    """Neighbouring data sets."""
    is_n_public: Stated
    """Whether the number of units counts as public."""


class Epsilon(Part):
    """The figure, and those that check it."""

    pld: Stated
    """Epsilon by PLD, an upper bound: the figure that counts."""
    prv: Stated
    """Epsilon by PRV (opacus), an upper bound."""
    rdp: Stated
    """Epsilon by RDP (opacus), an upper bound."""
    replace_one: Stated
    """Epsilon if one record is replaced instead of added or removed."""
    delta: Stated
    """Delta, the chance that is left outside the bound."""
    delta_times_n: Stated
    """Delta times the number of units; 0.1 or less is wanted."""


class Unamplified(Part):
    """For a reader who doubts that batches were drawn at random."""

    epsilon: Stated
    """Epsilon without the gain from random batches."""


class GroupLevel(Part):
    """Epsilon of somebody who owns several units."""

    size: int = Field(ge=1)
    epsilon: Stated
    is_observed: bool
    """Whether somebody is known to own so many; else the size is an example."""


class UserLevel(Part):
    """What is revealed of a whole person."""

    known: Stated
    """What is known of how many units one person owns."""
    groups: tuple[GroupLevel, ...]
    family: Stated
    """Units in the largest set of texts that are alike."""
    family_epsilon: Stated
    """Epsilon of whoever wrote them."""


class Mechanism(Part):
    """What was done to each step."""

    clipping_norm: Stated
    """Largest influence of one record on a step (clipping norm C)."""
    noise_multiplier: Stated
    """Noise, in units of that influence (noise multiplier)."""
    sample_rate: Stated
    """Chance of a unit to enter a step (sample rate q)."""
    steps: Stated
    """Steps planned."""
    denominator: Stated
    """What a sum is divided by, a constant."""
    clipping: Stated
    """How influence is bounded."""
    randomness: Stated
    """Where noise and draws come from."""
    arithmetic: Stated
    """Precision."""


class Sampler(Part):
    """How batches were drawn, and what shows it."""

    kind: Stated
    """How batches were drawn."""
    rate: Stated
    """Inclusions measured, relative to all that were possible."""
    spread_of_examples: Stated
    """Variance of inclusions by example: 1 if independent, 0 if shuffled."""
    spread_of_batches: Stated
    """Variance of batch sizes: 1 if independent, 0 if of a fixed size."""


class Steps(Part):
    """Planned, taken and paid for."""

    planned: Stated
    """Steps planned."""
    taken: Stated
    """Steps that the trainer took."""
    not_taken: Stated = Missing(missing="the report was written before this was told")
    """Planned steps that were charged, lost to interruptions, and never taken."""
    charged: Stated
    """Lines in the ledger."""
    repeated: Stated
    """Charged again after a crash."""
    resumed_from: Stated
    """Step that the last restart began from."""
    ledger_head: Stated
    """Hash of the ledger's last line, which pins all before it."""


class Data(Part):
    """What the model was trained on."""

    fingerprint: Stated
    """Fingerprint of the training rows."""
    num_rows: Stated
    """Training rows."""
    source: Stated
    """Where the rows come from."""
    lawful_basis: Stated
    """Lawful basis."""
    duplicates: Stated
    """Rows that stand word for word in another unit too."""
    near_duplicates: Stated
    """Rows that are nearly the same as one of another unit."""
    method: Stated
    """How copies were looked for."""
    personal_data: Stated
    """Personal data and secrets in the texts: what was redacted or kept, by kind and count."""


class Account(Part):
    """Other runs on the same data."""

    file: Stated
    """File of the account."""
    num_runs: Stated
    """Runs on the account, this one included."""
    epsilon: Stated
    """Epsilon of all of them together."""
    limit: Stated
    """Epsilon that they may spend together."""
    delta: Stated
    """Delta of the account."""


class Tuning(Part):
    """How settings were chosen."""

    trials: Stated
    """Trial runs, on what data, and how they are accounted."""


class Release(Part):
    """Something that exists because of the run."""

    what: str
    where: str
    is_covered: bool
    """Whether the claim covers it."""
    note: str


class Trained(Part):
    """What was changed, and of which model."""

    num_parameters: Stated
    """Numbers that were trained."""
    adapter: Stated
    """Adapter."""
    coverage: Stated
    """Fingerprint of the tensors under the clipping bound."""
    base: Stated
    """Base model."""
    base_identity: Stated
    """Its fingerprint."""
    lineage: Stated
    """What the base had learned before."""


class Software(Part):
    """What it ran on."""

    versions: Stated
    commit: Stated
    """Commit of Assay."""
    hardware: Stated
    seeds: Stated
    """What seeds reach."""


class SelfTestLine(Part):
    """One line of the self-test."""

    name: str
    passed: bool
    value: Stated
    low: float | None
    high: float | None
    wanted: str
    detail: str


class CanaryAudit(Part):
    """Made-up records that were planted, and what an attack found of them."""

    num_canaries: Stated
    """Made-up records, each with a coin of its own."""
    statistic: Stated
    """What the attack looks at, registered before training."""
    num_guesses: Stated
    """Coins that the attack guessed."""
    num_correct: Stated
    """Coins that it guessed right."""
    epsilon_lower: Stated
    """Lower bound on epsilon."""
    confidence: Stated
    """Confidence of that bound."""
    power: Stated
    """The most that an audit of this size could have shown."""
    verdict: Stated
    """Verdict on the claim."""


class Membership(Part):
    """Attacks that guess who was trained on; they describe, and bound nothing."""

    statistic: Stated
    """What the attack looks at."""
    auc: Stated
    """Pairs told apart (AUC); 0.5 is chance."""
    auc_low: Stated
    """Lower end of its 95 % interval."""
    auc_high: Stated
    """Upper end of its 95 % interval."""
    true_positives: Stated
    """Share of members found at the false-alarm rate beside it."""
    false_positive_rate: Stated
    """False-alarm rate of that."""
    exposure: Stated
    """Bits by which a canary stands out."""
    num_members: Stated
    """Rows that were trained on, and attacked."""
    num_non_members: Stated
    """Rows that were not."""
    controls: Stated
    """Positive control."""


class Metric(Part):
    """One figure of usefulness."""

    task: str
    metric: str
    target: str
    value: Stated
    low: float | None
    high: float | None
    num_items: int
    is_slice: bool
    """Whether it compares groups of people."""


class Utility(Part):
    """What the model is good for, with and without privacy."""

    metrics: tuple[Metric, ...]
    without_privacy: Stated
    """The same recipe without privacy."""
    by_group: Stated
    """Whether groups of people were compared: noise costs small groups most."""


class Check(Part):
    """One line of the check-list."""

    id: str
    severity: Severity
    status: Status
    what: str
    evidence: str
    effect: str


class InWords(Part):
    """Epsilon in plain words."""

    max_posterior: Stated
    """The most that somebody can come to believe, from an even guess."""
    max_true_positive_rate: Stated
    """Most members that an attack with 1 % false alarms can name."""
    sentences: tuple[str, ...]


class Approval(Part):
    """Who answers for it."""

    owner: Stated
    """Who answers for the model."""
    approver: Stated
    """Who approves its use."""
    expires: Stated
    """Approval is to be given anew after."""
    signature: Stated


class PrivacyReport(Part):
    """All 23 fields, in the survey's order."""

    schema_version: Literal[1] = SCHEMA
    title: str
    made: str
    """When the report was written, in UTC."""

    target: Literal["run", "release"]
    claim: Claim
    unit: Unit
    adjacency: Adjacency
    epsilon: Epsilon
    without_amplification: Unamplified
    user_level: UserLevel
    mechanism: Mechanism
    sampler: Sampler
    steps: Steps
    data: Data
    account: Account
    tuning: Tuning
    released: tuple[Release, ...] = Field(min_length=1)
    trained: Trained
    software: Software
    self_test: tuple[SelfTestLine, ...]
    canary_audit: CanaryAudit
    membership: Membership
    utility: Utility
    checklist: tuple[Check, ...] = Field(min_length=1)
    not_protected: tuple[str, ...] = Field(min_length=1)
    in_words: InWords
    approval: Approval

    @model_validator(mode="after")
    def _claims_nothing_else(self) -> Self:
        """Refuse the one word that such a report may never use of itself."""
        if "compliant" in json.dumps(self.model_dump()).casefold():
            raise ValueError('a privacy report does not say "compliant": it supplies evidence')
        return self


FIELDS: tuple[tuple[str, str], ...] = (
    ("claim", "The claim"),
    ("unit", "Who is protected"),
    ("adjacency", "What is compared"),
    ("epsilon", "Epsilon, counted three times"),
    ("without_amplification", "If you doubt the random batches"),
    ("user_level", "People with several rows"),
    ("mechanism", "How it is done"),
    ("sampler", "How batches were drawn"),
    ("steps", "Steps, planned and paid for"),
    ("data", "The data"),
    ("account", "Other runs on the same data"),
    ("tuning", "How settings were chosen"),
    ("released", "What leaves, and what the claim covers"),
    ("trained", "What was trained"),
    ("software", "What it ran on"),
    ("self_test", "The mechanism, tested on itself"),
    ("canary_audit", "The attack with made-up records"),
    ("membership", "Attacks that guess who took part"),
    ("utility", "What the model is good for"),
    ("checklist", "The check-list"),
    ("not_protected", "What is not protected"),
    ("in_words", "Epsilon in plain words"),
    ("approval", "Who answers for it"),
)
"""The fields of the report, numbered from 1, and their titles."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    return PrivacyReport.model_json_schema(mode="serialization")
