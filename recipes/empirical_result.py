"""What an empirical audit found: in figures, in words, and as a table of runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from privacy.membership import AUC, Attack, Exposure
from privacy.one_run import OneRun
from recipes.printing import Printer

RESULT = "empirical.json"
"""In a run's folder."""

SCHEMA = 1

FEW_ROWS = 100
"""Of either kind, with fewer of which an AUC says little: its standard error at chance is 0.04."""

Verdict = Literal["no claim", "no canaries", "not refuted", "refuted", "void"]


@dataclass(frozen=True)
class RowAttacks:
    """Attacks on a run's own rows: those it was trained on against its test rows."""

    attacks: tuple[Attack, ...]
    base_alone: AUC
    """Control: the same rows, by the loss of the base, which was trained on neither kind."""


@dataclass(frozen=True)
class CanaryAudit:
    """The audit by the canaries of a run."""

    commitment: str
    statistic: str
    """The one that was registered before training; the bound rests on it alone."""

    num_in: int
    attacks: tuple[Attack, ...]
    exposure: Exposure
    one_run: OneRun
    never_against_never: AUC
    """Negative control: canaries whose coins said no against controls that had no coin."""

    void: tuple[str, ...]
    """Why nothing follows from this audit; empty if it is sound."""


@dataclass(frozen=True)
class Empirical:
    """What was found of one run."""

    run: str
    name: str
    is_private: bool
    epsilon: float | None
    """Spent, from the ledger; None without a claim."""

    delta: float
    rows: RowAttacks
    canaries: CanaryAudit | None
    positive_control: str | None = None
    """Whether the attack finds the canaries of a plain twin; None if none was given."""

    @property
    def verdict(self) -> Verdict:
        """Say in a word what follows for the claimed epsilon; never that it holds."""
        if self.canaries is None:
            return "no canaries"
        if self.canaries.void:
            return "void"
        if self.epsilon is None:
            return "no claim"
        return "refuted" if self.canaries.one_run.is_refuted else "not refuted"

    def to_json(self) -> dict[str, Any]:
        """Return what empirical.json holds."""
        values = {"schema": SCHEMA, "verdict": self.verdict} | asdict(self)
        told = _of_canaries(self, self.canaries) if self.canaries else []
        return values | {"in_words": words(self), "canaries_in_words": told}


_PUBLISHABLE = (
    *("schema", "verdict", "name", "is_private", "epsilon", "delta"),
    *("canaries", "canaries_in_words", "positive_control"),
)


def publishable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an empirical.json may leave the house: what canaries, made-up records, told.

    The rest is computed from private rows and covered by no epsilon.
    """
    return {key: values[key] for key in _PUBLISHABLE if key in values}


def words(found: Empirical) -> list[str]:
    """Say what was found, and what does not follow from it, for a reader without statistics."""
    attacks = found.rows.attacks
    best = max(attacks, key=lambda attack: attack.auc.value)
    said = [
        f"By {best.statistic}, the best of {len(attacks)} scores, a row that was trained on looks "
        f"more familiar than one that was not in {best.auc.value:.0%} of such pairs (half is "
        "chance). That describes these attacks on these rows: no bound on epsilon follows, the "
        "two kinds of rows may differ otherwise, and a better attack may find more.",
    ]
    fewest = min(best.auc.num_members, best.auc.num_non_members)
    if fewest < FEW_ROWS:
        said.append(f"There are only {fewest} rows of one kind, so those figures are rough.")
    if found.is_private:
        said.append(
            "The figures on its own rows are computed from private rows and are outside the "
            "guarantee; keep them in the house. Those on canaries concern made-up records alone."
        )
    if not found.rows.base_alone.holds_half:
        said.append(
            "The base alone, which was trained on none of these rows, tells the two kinds apart "
            f"too (AUC {interval(found.rows.base_alone)}): they differ in more than training, and "
            "the figures on rows measure that as well."
        )
    if found.canaries is None:
        said.append(
            "The run has no canaries, so there is no lower bound on epsilon: set data.canaries "
            "(400, say) before training to have one."
        )
        return said
    return [*said, *_of_canaries(found, found.canaries)]


def _of_canaries(found: Empirical, audit: CanaryAudit) -> list[str]:
    result, power = audit.one_run, audit.one_run.power
    if audit.void:
        return [f"THE AUDIT IS VOID: {why}." for why in audit.void]
    said = [
        f"Of {result.num_guesses} coins guessed from the trained weights, {result.num_correct} "
        f"were guessed right. With {result.confidence:.0%} confidence epsilon is at least "
        f"{result.epsilon_lower:.2f} (at delta {result.delta:g}). That bounds from below; it does "
        "not measure epsilon, and nothing about the run is safe because it is small.",
        f"Power: with {result.num_canaries} canaries no audit can show more than epsilon "
        f"{power.epsilon_at_most:.2f}, even if every guess is right."
        + (
            f" If the run spends exactly its epsilon of {power.epsilon:.2f}, the best possible "
            f"attack shows {power.median:.2f} in the middle case, and less than {power.high:.2f} "
            "in 95 of 100 audits."
            if power.median is not None
            else ""
        ),
    ]
    if found.epsilon is None:
        return said
    if result.is_refuted:
        said.append(
            f"THE CLAIM IS REFUTED: if epsilon were {found.epsilon:.2f}, so many right guesses "
            f"would come about with a chance of {result.p_value:.2g} at most. Do not rely on it."
        )
    elif power.refuting is None:
        said.append(
            f"An audit of this size could not have refuted epsilon {found.epsilon:.2f}, whatever "
            "the run spends: that it did not is no evidence for the claim."
            + (
                f" It would take {power.canaries_needed} canaries or more."
                if power.canaries_needed and power.canaries_needed > result.num_canaries
                else ""
            )
        )
    else:
        said.append(
            "The claim is not refuted. Against the best possible attack this audit would have "
            f"found out, one time in two, a run that truly spends {power.refuting:.1f}; a smaller "
            "excess it would have missed."
        )
    said.append(
        f"Positive control: {found.positive_control}."
        if found.positive_control
        else "No positive control: whether this attack finds anything at all is shown by a plain "
        "twin (the same recipe with --set privacy=null --set name=...) named beside this run."
    )
    return said


def interval(auc: AUC) -> str:
    """Write an AUC with its interval, as ``0.62 [0.55, 0.69]``."""
    return f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]"


def show(results: Sequence[Empirical]) -> None:
    """Print runs side by side, then each in words."""
    console = Printer()
    table = Table("", *(one.name for one in results))
    columns = [_figures(one) for one in results]
    for name in dict.fromkeys(name for column in columns for name in column):
        is_section = name.isupper()
        cells = [Text(column.get(name, "" if is_section else "-")) for column in columns]
        table.add_row(Text(name, "bold" if is_section else ""), *cells, end_section=False)
    console.print(table)
    console.print(
        "AUC: chance that what was trained on scores higher, with its 95 % interval (of the two "
        "controls, base alone and never/never, 99 %; they should hold 0.5). (*) registered before "
        "training."
    )
    for one in results:
        console.print(Text(f"\n{one.name}: {one.verdict}", "bold"))
        for sentence in words(one):
            style = "bold red" if sentence.startswith("THE ") else ""
            console.print(Text(f"  - {sentence}", style))


def _figures(found: Empirical) -> dict[str, str]:
    """Return one column of the table."""
    claim = "none" if not found.is_private else "no valid claim"
    if found.epsilon is not None:
        claim = f"{found.epsilon:.3f} at delta {found.delta:g}"
    rows = found.rows
    auc = rows.base_alone
    figures = {
        "epsilon claimed": claim,
        "OWN ROWS": f"{auc.num_members} trained on, {auc.num_non_members} not",
        **_of_attacks("rows", rows.attacks),
        "rows: AUC by base alone": interval(rows.base_alone),
    }
    if found.canaries is None:
        return figures | {"CANARIES": "none"}
    audit = found.canaries
    result, power = audit.one_run, audit.one_run.power
    return figures | {
        "CANARIES": f"{audit.num_in} of {result.num_canaries} trained on",
        **_of_attacks("canaries", audit.attacks, audit.statistic),
        "canaries: exposure": f"median {audit.exposure.median:.1f}, largest "
        f"{audit.exposure.largest:.1f} of {audit.exposure.cap:.1f} bits",
        "canaries: AUC never/never": interval(audit.never_against_never),
        "right guesses": f"{result.num_correct} of {result.num_guesses}",
        "epsilon at least, 95 %": f"{result.epsilon_lower:.2f}" + (" VOID" if audit.void else ""),
        "  power: at most": f"{power.epsilon_at_most:.2f}",
        "  power: if claim exact": "-"
        if power.median is None
        else f"{power.median:.2f} (95 % below {power.high:.2f})",
        "p-value of the claim": "-" if result.p_value is None else f"{result.p_value:.2g}",
        "verdict": found.verdict,
    }


def _of_attacks(what: str, attacks: Sequence[Attack], registered: str = "") -> dict[str, str]:
    figures = {}
    for attack in attacks:
        name = f"{what}: AUC by {attack.statistic}"
        mark = " (*)" if attack.statistic == registered else ""
        figures[name + mark] = interval(attack.auc)
    for attack in attacks:
        if attack.true_positives is not None:
            found = attack.true_positives
            rate = f"{found.false_positive_rate:.3g}"
            figures[f"{what}: found at FPR {rate}, {attack.statistic}"] = (
                f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
            )
    return figures
