"""The check-list itself: every way that is known in which a stated epsilon can be untrue.

Identifiers are those of the survey behind this package: S sampling, U unit, D sensitivity, N
noise, A accounting, L releases beside the model. A check that cannot be made says so: *not
checked* is not *passed*.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["CHECKLIST", "Finding", "Line", "Severity", "Status", "by_severity", "complete"]

Status = Literal["pass", "fail", "warn", "not_applicable", "not_checked"]
Severity = Literal["void", "weaker", "release", "scope"]

SEVERITIES: dict[Severity, str] = {
    "void": "The guarantee would be void",
    "weaker": "The guarantee would be weaker than stated",
    "release": "Something else would be released beside the model",
    "scope": "The statement covers less than a reader would think",
}
"""What a failure would mean, the gravest first."""


@dataclass(frozen=True)
class Finding:
    """One line of the check-list, as found."""

    id: str
    severity: Severity
    """What a failure would mean: the guarantee is void, weaker than stated, something else was
    released beside the model, or the statement covers less than a reader would think."""
    status: Status
    what: str
    """The property that is checked."""
    evidence: str
    """What was found, and the way out where it failed."""
    effect: str = ""
    """What a failure does to epsilon, by the accountant that fits; empty where nothing failed."""


@dataclass(frozen=True)
class Line:
    """One line of the check-list, before anything is looked at."""

    id: str
    severity: Severity
    what: str


CHECKLIST: tuple[Line, ...] = (
    Line("S1", "void", "batches are drawn by Poisson sampling, as the account assumes"),
    Line("S2", "void", "no drawn example is dropped because a batch is large"),
    Line("S3", "void", "a record enters a noisy sum once at most"),
    Line("S4", "void", "one draw and one noise a step"),
    Line("S5", "void", "an empty draw is a step like any other"),
    Line("S6", "void", "processes draw independently"),
    Line("S7", "void", "no record is repeated to fill a process"),
    Line("S8", "weaker", "sample rate, steps and denominator follow from one plan"),
    Line("S9", "void", "who was drawn is not written down"),
    Line("S10", "weaker", "batches have no fixed size"),
    Line("U1", "void", "an example is a record: no packing"),
    Line("U2", "void", "a batch is no single sequence: no padding-free batches"),
    Line("U3", "void", "a clipped gradient is one record's, not one token's"),
    Line("U4", "scope", "what one person owns is what is protected"),
    Line("U5", "scope", "one text stands in one unit: no copies across units"),
    Line("U6", "void", "no loss compares records with one another"),
    Line("U7", "weaker", "the neighbouring relation is stated"),
    Line("U8", "weaker", "accountants read the noise alike"),
    Line("D1", "void", "a record's loss does not depend on its neighbours"),
    Line("D2", "void", "no layer or auxiliary loss mixes records"),
    Line("D3", "void", "every trained tensor is under the clipping bound"),
    Line("D4", "void", "each record is clipped, not a micro-batch"),
    Line("D5", "void", "the norm is taken over all tensors together"),
    Line("D6", "void", "no weight is used past its clipped layer"),
    Line("D7", "void", "an infinite or undefined gradient of one record stays its own"),
    Line("D8", "weaker", "norms are taken in float32 or wider"),
    Line("D9", "void", "the clipping bound is fixed in advance"),
    Line("D10", "weaker", "sums are divided by a constant"),
    Line("D11", "weaker", "dropout is drawn for each record by itself"),
    Line("D12", "void", "no gradient of the step before remains"),
    Line("N1", "void", "noise is drawn once a step, for the whole sum"),
    Line("N2", "void", "nobody can repeat the noise"),
    Line("N3", "void", "no noise is drawn twice after a restart"),
    Line("N4", "void", "noise and trained tensors have the precision of float32"),
    Line("N5", "weaker", "the sampler withstands attacks on floating-point numbers"),
    Line("N6", "void", "there is noise"),
    Line("N7", "weaker", "the noise comes from a cryptographic generator"),
    Line("N8", "void", "trained tensors change by noisy sums alone"),
    Line("A1", "void", "the ledger's chain holds, across restarts too"),
    Line("A2", "weaker", "the accountant is an upper bound, not an approximation"),
    Line("A3", "void", "delta is far below 1 / examples"),
    Line("A4", "weaker", "epsilon is computed from the steps charged"),
    Line("A5", "scope", "all runs on the same data are counted together"),
    Line("A6", "scope", "no model is chosen by private rows"),
    Line("A7", "weaker", "the figure is the accountant's upper end"),
    Line("A8", "weaker", "no accountant ran into the end of its grid"),
    Line("A9", "scope", "it is said whether the number of examples is public"),
    Line("A10", "weaker", "epsilon is small enough to mean something"),
    Line("L1", "release", "no figures of private batches are written down"),
    Line("L2", "release", "no figures on held-back rows choose or leave with the model"),
    Line("L3", "release", "checkpoints hold nothing but released values"),
    Line("L4", "release", "vocabulary, labels and filters do not come from the rows"),
    Line("L5", "release", "the adapter's first values do not come from the rows"),
    Line("L6", "release", "nothing is calibrated on private rows at export"),
    Line("L7", "release", "no prompt or index holds private rows"),
    Line("L8", "scope", "the base did not see the data without privacy"),
    Line("L9", "release", "no cache, dump or card holds private rows"),
    Line("L10", "scope", "prompts at use are not covered, and that is said"),
)
"""Section 3 of the survey, line by line; A10 is ours."""

_LINES = {line.id: line for line in CHECKLIST}
_GRAVITY: dict[Status, int] = {
    "fail": 0,
    "warn": 1,
    "pass": 2,
    "not_checked": 3,
    "not_applicable": 4,
}
_ORDER: dict[Status, int] = _GRAVITY | {"not_checked": 2, "pass": 3}  # what to read first


def finding(id: str, status: Status, evidence: str, effect: str = "") -> Finding:  # noqa: A002
    """Return a line of the list as found."""
    line = _LINES[id]
    return Finding(id, line.severity, status, line.what, evidence, effect)


def complete(findings: Iterable[Finding]) -> list[Finding]:
    """Return the whole list in order, each line once.

    What several looks found of one line is put together: the gravest status counts, and the
    evidence of all that count stands beside it, a line each. A line that nobody looked at is not
    checked.
    """
    found: dict[str, list[Finding]] = {line.id: [] for line in CHECKLIST}
    for one in findings:
        found[one.id].append(one)
    return [_merged(_LINES[id_], ones) for id_, ones in found.items()]


def by_severity(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """Group findings by what a failure would mean, the gravest first; failures first in each."""
    ones = list(findings)
    groups = [
        (title, sorted((f for f in ones if f.severity == s), key=lambda f: _ORDER[f.status]))
        for s, title in SEVERITIES.items()
    ]
    return [(title, group) for title, group in groups if group]


def _merged(line: Line, ones: list[Finding]) -> Finding:
    if not ones:
        evidence = "nothing on record tells"
        return Finding(line.id, line.severity, "not_checked", line.what, evidence)
    gravest = min((one.status for one in ones), key=_GRAVITY.__getitem__)
    counting = [one for one in ones if one.status == gravest]
    evidence = "\n".join(dict.fromkeys(one.evidence for one in counting))
    effect = "; ".join(dict.fromkeys(one.effect for one in counting if one.effect))
    return Finding(line.id, counting[0].severity, gravest, line.what, evidence, effect)
