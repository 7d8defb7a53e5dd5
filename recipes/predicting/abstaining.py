"""Where a classifier abstains: as it is told, or so that a stated error rate is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from eval import harness
from eval.abstention import METHOD, AbstentionRule, abstention_rule
from eval.task import Report
from recipes.errors import InputError
from recipes.files import read_json, undamaged
from recipes.predicting.target import PredictionTarget

TASK = "classification"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Abstention:
    """Below which confidence no label is given, and what that promises."""

    below: float
    rule: AbstentionRule | None
    """None where the threshold was stated: then nothing is promised."""

    def describe(self) -> str:
        """Return it in words: what is guaranteed, and on what data."""
        if self.rule is None:
            return (
                f"No label is given below a confidence of {self.below:g}, as asked; what error "
                "rate that keeps is not known (--abstain-below auto finds one that is shown to)."
            )
        rule = self.rule
        where = (
            f"No label is given below a confidence of {self.below:.4g}"
            if rule.num_answered < rule.num_items
            else "Every row gets its label"
        )
        return (
            f"{where}. With {rule.confidence:.0%} confidence, at most {rule.error_rate:.1%} of the "
            f"labels given are wrong, for rows drawn like the {rule.num_items} held-out rows that "
            f"this model was evaluated on ({rule.num_answered} of them get a label, "
            f"{rule.num_wrong} a wrong one; upper bound {rule.upper_bound:.1%}). Nothing is "
            f"guaranteed for rows that come from elsewhere or have changed since. Method: {METHOD}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        found = {"below": self.below, "guarantee": None, "statement": self.describe()}
        if self.rule is None:
            return found
        values = asdict(self.rule) | {"method": METHOD}
        values["data"] = f"the held-out rows of the evaluation of this model, task {TASK}"
        del values["threshold"]  # it is `below`
        return found | {"guarantee": values}


def read_abstention(
    given: str | None, error_rate: float, target: PredictionTarget
) -> Abstention | None:
    """Return what ``--abstain-below`` asks for; None for nothing.

    Args:
        given: a probability, or ``auto``.
        error_rate: that ``auto`` is to keep among the labels given.
        target: a classifier, with its evaluation for ``auto``.

    Raises:
        InputError: if it is no probability, the target gives none, or its own evaluation is not at
            hand.
        EvaluationError: if no threshold is shown to keep the rate.
    """
    if given is None:
        return None
    if target.recipe.recipe != "classification":
        raise InputError(
            f"--abstain-below: a {target.recipe.recipe} model gives texts without probabilities, "
            "so it has no confidence to compare; leave the option out"
        )
    if given != "auto":
        return Abstention(_probability("--abstain-below", given), None)
    if not 0 < error_rate < 1:
        raise InputError(f"--error-rate: wanted a number between 0 and 1, found {error_rate:g}")
    rule = _rule(target, error_rate)
    return Abstention(max(rule.threshold, 0.0), rule)


def _probability(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{option}: wanted a number between 0 and 1, or auto; found {text!r}")
    return value


def _rule(target: PredictionTarget, error_rate: float) -> AbstentionRule:
    if target.evaluation is None or not (target.evaluation / "report.json").is_file():
        raise InputError(
            "--abstain-below auto: the evaluation of this model is not at hand, so nothing can be "
            "shown of its errors; name the run or the release, and evaluate it first with: assay "
            "eval RUN"
        )
    with undamaged(target.evaluation):
        report = Report.from_json(read_json(target.evaluation / "report.json"))
    evaluated = report.target.adapter if target.kind == "adapter" else report.target.merged
    if evaluated != target.identity:
        raise InputError(
            f"--abstain-below auto: {target.evaluation} is about the model {evaluated}, and this "
            f"is {target.identity}; evaluate it with: assay eval RUN"
        )
    if TASK not in report.tasks:
        raise InputError(
            f"--abstain-below auto: the evaluation has no task {TASK}; evaluate it with eval.tasks "
            "of the recipe left at default"
        )
    samples = harness.read_samples(target.evaluation, TASK)
    if len(samples) != report.tasks[TASK].n:
        raise InputError(
            f"--abstain-below auto: {target.evaluation} has {len(samples)} samples, and its report "
            f"is of {report.tasks[TASK].n}; evaluate again with: assay eval RUN"
        )
    with undamaged(target.evaluation):
        confidences = [sample.scores["confidence"] for sample in samples]
    return abstention_rule(
        confidences,
        [sample.correct is True for sample in samples],
        error_rate=error_rate,
        confidence=CONFIDENCE,
    )
