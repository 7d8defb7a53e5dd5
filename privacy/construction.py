"""What holds of a run because of how our trainer is built, and which test shows it.

An officer should not have to take "by construction" on trust: each line names the part of this
package that makes it so, the lines of the self-test that measured it before the run, and the test
that holds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy.checklist import Finding, finding

__all__ = ["CONSTRUCTION", "Construction", "findings", "self_test_findings"]


@dataclass(frozen=True)
class Construction:
    """Why a line of the check-list holds."""

    how: str
    measured: tuple[str, ...] = ()
    """Lines of the self-test that measure it before each run."""

    test: str = ""
    """The test that holds it."""


CONSTRUCTION: dict[str, Construction] = {
    "S1": Construction(
        "the plan makes the sampler, and the trainer refuses any other",
        ("sampling-rate", "sampling-of-examples", "sampling-of-batches"),
        "tests/privacy/test_trainer.py: test_batches_that_are_not_drawn_as_accounted_are_refused",
    ),
    "S2": Construction(
        "a draw of any size is cut into micro-batches that fit, and none of it is dropped",
        ("sampling-of-batches",),
        "tests/privacy/test_trainer.py: test_micro_batches_do_not_change_a_step",
    ),
    "S3": Construction(
        "a draw holds each unit once, and there is no queue that could hold a record back",
        ("sampling-rate",),
        "tests/privacy/test_mechanism.py: test_a_draw_takes_each_example_with_the_sample_rate",
    ),
    "S4": Construction(
        "a step is one draw, one sum, one noise and one line of the ledger",
        (),
        "tests/privacy/test_trainer.py: test_a_run_takes_its_steps_and_pays_for_each",
    ),
    "S5": Construction(
        "an empty draw adds noise to zeros",
        ("empty-draw",),
        "tests/privacy/test_trainer.py: test_empty_draws_are_noise_and_nothing_else",
    ),
    "S6": Construction("one process draws; more than one is refused"),
    "S7": Construction("one process draws; more than one is refused"),
    "S8": Construction(
        "sampler, denominator, noise and account read one plan, which stands in the ledger",
        ("sampling-rate",),
        "tests/privacy/test_trainer.py: test_a_plan_for_other_data_or_steps_is_refused",
    ),
    "S9": Construction("a line of the ledger holds no row, no batch size, no loss and no time"),
    "S10": Construction(
        "each unit enters by a coin of its own, so the size of a batch varies",
        ("sampling-of-batches",),
    ),
    "U1": Construction(
        "each example is a row of its own, counted against the losses at every step",
        (),
        "tests/privacy/test_trainer.py: test_more_or_fewer_losses_than_examples_are_refused",
    ),
    "U2": Construction("the first dimension of every layer's input is checked at every backward"),
    "U3": Construction(
        "the first dimension of every layer's input is checked at every backward",
        (),
        "tests/privacy/test_per_record.py: "
        "test_a_first_dimension_that_is_not_the_record_is_refused",
    ),
    "U6": Construction(
        "supervised losses alone, each of one record; no preference pairs, no contrast",
        (),
        "tests/privacy/test_trainer.py: test_losses_that_couple_records_are_refused",
    ),
    "U7": Construction("add-or-remove-one, with replace-one beside it"),
    "U8": Construction(
        "all accountants are asked under one relation, with noise relative to one clipping norm",
        (),
        "tests/parity/test_accountants.py",
    ),
    "D1": Construction(
        "each loss is a mean over the record's own tokens",
        ("sensitivity",),
        "tests/privacy/test_trainer.py: test_a_record_moves_a_step_by_at_most_its_bound",
    ),
    "D2": Construction(
        "at the first batch, one record's loss must have no gradient in the row of another",
        (),
        "tests/privacy/test_trainer.py: test_losses_that_couple_records_are_refused",
    ),
    "D3": Construction(
        "only weights of linear layers may be trained, and any other is refused by name",
        (),
        "tests/privacy/test_per_record.py: "
        "test_a_trainable_tensor_that_is_not_covered_is_refused_by_name",
    ),
    "D4": Construction(
        "clipping sees one row a record",
        ("sensitivity",),
        "tests/privacy/test_self_test.py: test_clipping_the_batch_instead_of_the_record_is_found",
    ),
    "D5": Construction(
        "one norm over all tensors",
        ("sensitivity",),
        "tests/privacy/test_mechanism.py: test_the_norm_is_taken_over_all_tensors_together",
    ),
    "D6": Construction(
        "a gradient that reaches a weight past its layer stops the run; the output head is refused",
        (),
        "tests/privacy/test_per_record.py: test_a_weight_that_is_used_past_its_layer_is_refused",
    ),
    "D7": Construction(
        "such a record adds zeros and nothing else changes",
        ("non-finite-record",),
        "tests/privacy/test_trainer.py: test_a_record_that_is_not_finite_does_not_poison_the_model",
    ),
    "D8": Construction(
        "norms are taken in float64, sums in float32",
        ("sensitivity",),
        "tests/privacy/test_mechanism.py: "
        "test_low_precision_gradients_are_clipped_in_high_precision",
    ),
    "D9": Construction("the bound is a number of the plan, and the plan stands in the ledger"),
    "D10": Construction("the denominator is the expected batch size, fixed in the plan"),
    "D11": Construction("dropout's draws are not the noise's, and no record sees another's"),
    "D12": Construction(
        "every step begins from zeros of its own",
        (),
        "tests/privacy/test_trainer.py: test_empty_draws_are_noise_and_nothing_else",
    ),
    "N1": Construction(
        "noise is added once, after all micro-batches are summed",
        ("noise-scale", "distinguishability"),
        "tests/privacy/test_trainer.py: test_micro_batches_do_not_change_a_step",
    ),
    "N2": Construction(
        "noise and draws come from the operating system; train.seed reaches neither",
        ("noise-independence",),
        "tests/privacy/test_mechanism.py: test_noise_is_not_touched_by_the_global_seed",
    ),
    "N3": Construction(
        "the generator has no state that could be stored; a resumed run draws afresh",
        ("noise-independence",),
        "tests/privacy/test_trainer.py: test_a_checkpoint_holds_its_ledger_line_and_no_generator",
    ),
    "N4": Construction(
        "noise is drawn in float64 and added in float32",
        ("noise-scale",),
    ),
    "N7": Construction(
        "the operating system's generator (os.urandom)",
        (),
        "tests/privacy/test_trainer.py: test_by_default_noise_comes_from_the_operating_system",
    ),
    "N8": Construction("one optimizer, which sees noisy sums alone; no averaging of raw values"),
    "A2": Construction("PLD, rounded pessimistically; Gaussian DP is not offered"),
    "A7": Construction("PLD's upper bound, and PRV's upper end beside it"),
    "A8": Construction("RDP is shown beside PLD only, and holds at every order"),
    "A9": Construction("the number of examples counts as public, and the statement says so"),
    "L1": Construction(
        "loss, gradient norm, accuracy and token counts stay inside the step",
        (),
        "tests/privacy/test_trainer.py: test_nothing_private_is_logged",
    ),
    "L3": Construction(
        "a checkpoint holds the adapter, the optimizer and a line of the ledger",
        (),
        "tests/privacy/test_trainer.py: test_a_checkpoint_holds_its_ledger_line_and_no_generator",
    ),
    "L6": Construction("the merge reads weights alone; no export is calibrated on rows"),
    "L10": Construction("the statement says so among what is not protected"),
}

_NOT_DEFENDED = (
    "Gaussian noise of 53-bit uniforms, rounded to float32; attacks on the spacing of such "
    "numbers (Mironov 2012) are theoretical here and not defended against"
)


def findings() -> list[Finding]:
    """Return what holds by construction, each with what makes it so and the test that shows it."""
    found = []
    for id_, one in CONSTRUCTION.items():
        shown = f" [{one.test}]" if one.test else ""
        found.append(finding(id_, "pass", f"by construction: {one.how}{shown}"))
    found.append(finding("N5", "not_checked", _NOT_DEFENDED))
    return found


def self_test_findings(lines: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Return what the self-test of a run measured, line by line of the check-list.

    Args:
        lines: of the self-test as the run's record has them; none if it was not made.
    """
    if not lines:
        why = "the record holds no self-test, so what is true by construction was not measured"
        return [finding("N1", "warn", why)]
    by_name = {str(line["name"]): line for line in lines}
    found = []
    for id_, one in CONSTRUCTION.items():
        for name in one.measured:
            line = by_name.get(name)
            if line is None:
                found.append(finding(id_, "warn", f"the self-test has no line {name}"))
            elif line["passed"] is not True:
                evidence = f"self-test {name} failed: {line['detail']}"
                found.append(finding(id_, "fail", evidence, "the plan's epsilon does not hold"))
            else:
                found.append(finding(id_, "pass", f"self-test {name}: {line['detail']}"))
    return found
