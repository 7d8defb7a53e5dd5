"""The whole check-list, held against a described run: what each failure does to epsilon.

Identifiers are those of `privacy.checklist`: S sampling, U unit, D sensitivity, N noise, A
accounting, L releases beside the model. The figure after a failure is what can still be *proved* of
the run, by the account that fits what it really did; where nothing fits, that is said.
"""

import math
from collections.abc import Callable

from privacy import accountant, provable
from privacy.checklist import Finding, Severity
from privacy.described import Described
from privacy.provable import NOTHING as _NOTHING
from privacy.provable import Mechanism

_Bad = bool | None
"""True: failed. False: passed. None: not known."""

_Effect = str | Callable[[], str]
"""What a failure does to epsilon."""


def check(run: Described) -> list[Finding]:
    """Return a finding for each line of the check-list.

    A finding passes only on what is stated; what is left out is "not checked".
    """
    return [*_sampling(run), *_unit(run), *_sensitivity(run), *_noise(run), *_accounting(run),
            *_releases(run)]  # fmt: skip


def _sampling(run: Described) -> list[Finding]:
    cap = None
    if run.max_batch is not None and run.sample_rate and run.num_examples:
        mean = run.sample_rate * run.num_examples
        # the chance of a draw beyond 12 standard deviations is below any delta
        cap = run.max_batch < mean + 12 * math.sqrt(mean * (1 - run.sample_rate))
    rate = None
    if run.accounted_sample_rate is not None and run.sample_rate is not None:
        rate = run.accounted_sample_rate < run.sample_rate * (1 - 1e-9)
    steps = _less(run.accounted_steps, run.steps)
    many = run.num_processes is not None and run.num_processes > 1
    fixed = None
    if run.sampling is not None:
        fixed = run.sampling == "fixed-size" and run.accounted_sampling in (None, "poisson")
    shared = None if run.sampler_seed is None else run.sampler_seed == "same-everywhere" and many
    return [
        _line("S1", "void", "batches are drawn as the account assumes", _differs(run),
              f"drawn by {run.sampling}, accounted as {run.accounted_sampling or 'poisson'}",
              _unamplified(run)),
        _line("S1b", "void", "no order depends on the rows", run.grouped_by_length,
              "rows of like length are grouped, so who is drawn depends on the others",
              _unamplified(run)),
        _line("S2", "void", "no drawn example is dropped", cap,
              f"draws beyond {run.max_batch} are cut", _truncated(run)),
        _line("S3", "void", "a record enters a noisy sum once", _above(run.max_record_multiplicity),
              f"a record can enter {run.max_record_multiplicity} times", _scaled(run,
              run.max_record_multiplicity)),
        _line("S4", "void", "one draw under one noise", _above(run.draws_per_noise),
              f"{run.draws_per_noise} independent draws are summed under one noise",
              _draws(run)),
        _line("S5", "void", "an empty draw is a step", _is(run.empty_draws, "skipped"),
              "empty draws are skipped, which tells that they were empty", _NOTHING),
        _line("S6", "void", "processes draw independently", shared,
              f"{run.num_processes} processes draw by one seed", _unamplified(run)),
        _line("S7", "void", "no record is repeated to fill a process", run.even_batches and many
              if run.even_batches is not None and run.num_processes is not None else None,
              "even_batches repeats records", _scaled(run, 2)),
        _line("S8", "weaker", "the accounted sample rate is the real one", rate,
              f"accounted {run.accounted_sample_rate}, real {run.sample_rate}", _honest(run)),
        _line("S8b", "weaker", "the accounted steps are all that were taken", steps,
              f"accounted {run.accounted_steps} of {run.steps} steps", _honest(run)),
        _line("S9", "void", "who was drawn is not logged", run.logs_drawn_rows,
              "logs name the drawn rows", _unamplified(run)),
        _line("S10", "weaker", "batches of a fixed size are accounted as such", fixed,
              "batches have a fixed size and are accounted as Poisson draws", _fixed_size(run)),
    ]  # fmt: skip


def _unit(run: Described) -> list[Finding]:
    is_example = run.unit in (None, "example")
    owned = None
    if run.max_rows_per_person is not None:
        owned = is_example and run.max_rows_per_person > 1
    relation = None
    if run.adjacency is not None and run.accountant_relation is not None:
        relation = run.adjacency != run.accountant_relation
    return [
        _line("U1", "void", "an example is a record: no packing", run.packing,
              "several rows share a sequence", _NOTHING),
        _line("U2", "void", "a batch is no single sequence", run.padding_free,
              "padding-free batches have one clip for all", _NOTHING),
        _line("U3", "void", "a clipped gradient is one record's",
              _is_not(run.gradient_rows, "records"),
              f"the rows of the gradients are {run.gradient_rows}, not records", _NOTHING),
        _line("U4", "scope", "what one person owns is what is protected", owned,
              f"one person owns up to {run.max_rows_per_person} rows, and the unit is the example",
              _group(run, run.max_rows_per_person)),
        _line("U5", "scope", "one source row is one example", _above(run.copies_per_example),
              f"one source row became {run.copies_per_example} examples",
              _group(run, run.copies_per_example)),
        _line("U6", "void", "no loss compares records with one another", run.compares_records,
              "a loss compares records, so clipping one does not bound it", _NOTHING),
        Finding("U7", "weaker", "not_checked" if run.adjacency is None else "pass",
                "the neighbouring relation is stated", run.adjacency or "not stated: replace-one "
                "is larger than add-or-remove-one"),
        _line("U8", "weaker", "the account is of the relation that is claimed", relation,
              f"claimed for {run.adjacency}, computed for {run.accountant_relation}",
              _claimed(run)),
    ]  # fmt: skip


def _sensitivity(run: Described) -> list[Finding]:
    uncovered = None
    if run.trainable is not None and run.clipped is not None:
        uncovered = sorted(set(run.trainable) - set(run.clipped))
    layers = None
    if run.clipping == "per-layer" and run.layer_norms is not None and run.clipping_norm:
        layers = math.hypot(*run.layer_norms) > run.clipping_norm * (1 + 1e-9)
    elif run.clipping is not None and run.clipping != "per-layer":
        layers = False
    norm = math.hypot(*run.layer_norms) / run.clipping_norm if layers and run.layer_norms and (
        run.clipping_norm) else 1.0  # fmt: skip
    return [
        _line("D1", "void", "a record's loss does not depend on its neighbours",
              _is_not(run.loss_average, "per-record"),
              f"losses are averaged over the {run.loss_average}", _NOTHING),
        _line("D2", "void", "no layer or loss mixes records",
              None if run.coupling_losses is None else bool(run.coupling_losses),
              f"coupled by {', '.join(run.coupling_losses or ())}", _NOTHING),
        _line("D3", "void", "every trained tensor is under the clipping bound",
              None if uncovered is None else bool(uncovered),
              f"not clipped: {', '.join(uncovered or ())}", _NOTHING),
        _line("D4", "void", "each record is clipped", _is(run.clipping, "per-micro-batch"),
              "a micro-batch is clipped as a whole", _scaled(run, 2)),
        _line("D5", "void", "bounds of layers add up to the accounted one", layers,
              f"layer bounds together are {norm:.3g} times the accounted norm", _scaled(run, norm)),
        _line("D6", "void", "no trained weight is read past its clipped layer",
              None if run.used_past_their_layer is None else bool(run.used_past_their_layer),
              f"also read elsewhere: {', '.join(run.used_past_their_layer or ())}", _NOTHING),
        _line("D7", "void", "a NaN of one record stays its own", _is_not(run.non_finite, "zeroed"),
              f"a NaN gradient is {run.non_finite}", _NOTHING),
        _line("D8", "weaker", "norms are taken in float32 or wider",
              None if run.gradient_dtype is None else run.gradient_dtype.endswith("16"),
              f"norms in {run.gradient_dtype} exceed the bound by up to 0.3 %",
              _scaled(run, 1.003)),
        _line("D9", "void", "the clipping bound is fixed or paid for",
              _is(run.clipping, "adaptive"),
              "the bound follows the private norms, and no second mechanism is accounted",
              _NOTHING),
        _line("D10", "weaker", "sums are divided by a constant",
              _is_not(run.denominator, "constant"),
              f"divided by the {run.denominator}, which is private", _NOTHING),
        _line("D12", "void", "no gradient of the step before remains", run.stale_gradients,
              "gradients are not cleared between steps", _NOTHING),
    ]  # fmt: skip


def _noise(run: Described) -> list[Finding]:
    return [
        _line("N1", "void", "noise is drawn once a step, for the whole sum",
              _is_not(run.noise_drawn, "per-step"),
              f"noise is drawn {run.noise_drawn}, which scales otherwise than accounted", _NOTHING),
        _line("N2", "void", "nobody can repeat the noise", _is(run.noise_seed, "known"),
              "the noise comes from a known seed, so it can be subtracted", _NOTHING),
        _line("N2b", "void", "processes add independent noise",
              _is(run.noise_seed, "same-everywhere"),
              "all processes draw the same noise", _NOTHING),
        _line("N3", "void", "no noise is drawn twice", run.rng_state_in_checkpoint,
              "checkpoints hold generator states: noise after a resume repeats", _NOTHING),
        _line("N4", "void", "noise has the precision of float32",
              None if run.noise_dtype is None else run.noise_dtype.endswith("16"),
              f"noise in {run.noise_dtype} takes few values, which show what it hides", _NOTHING),
        _line("N6", "void", "there is noise",
              None if run.noise_multiplier is None else run.noise_multiplier == 0,
              "the noise multiplier is 0", _NOTHING),
        _line("N7", "weaker", "a generator that is called secure is one",
              None if run.called_secure is None or run.generator is None
              else run.called_secure and run.generator == "framework",
              "the framework's generator is called secure, and its stream can be reconstructed",
              "the figure holds only for who cannot reconstruct it"),
        _line("N8", "void", "trained tensors change by noisy sums alone",
              None if run.other_updates is None else bool(run.other_updates),
              f"also changed by {', '.join(run.other_updates or ())}", _NOTHING),
    ]  # fmt: skip


def _accounting(run: Described) -> list[Finding]:
    share = None
    if run.delta is not None and run.num_examples is not None:
        share = run.delta * run.num_examples
    over = None
    mechanism = _mechanism(run)
    # claimed for that, and nobody says what it was computed for, which U8 would compare
    is_replaced = run.adjacency == "replace-one" and run.accountant_relation is None
    meant = _replace_one if is_replaced else provable.honest
    if run.reported_epsilon is not None and mechanism is not None:
        # reported figures are rounded, to three digits at worst
        over = meant(mechanism) > run.reported_epsilon * 1.005 + 5e-3
    delta = _line("A3", "void", "delta is below 1 / examples",
                  None if share is None else share >= 1,
                  f"delta times examples is {share or 0:.3g}", _NOTHING)  # fmt: skip
    if delta.status == "pass" and share is not None and share > 0.1 * (1 + 1e-9):
        delta = Finding("A3", "weaker", "warn", delta.what, f"delta times examples is {share:.3g}, "
                        "wanted 0.1 or less")  # fmt: skip
    return [
        _line("A0", "weaker", "the figures give the epsilon that is reported", over,
              f"reported {run.reported_epsilon}", _then(run, meant)),
        _line("A1", "weaker", "a restart does not forget what was spent",
              None if run.survives_resume is None else not run.survives_resume,
              "the account begins anew on resume", "at least the reported epsilon again"),
        _line("A2", "weaker", "the accountant is a bound", _is(run.accountant, "gdp"),
              "the Gaussian approximation lies below the truth", _honest(run)),
        delta,
        _line("A5", "scope", "all runs on the data are counted",
              _less(run.runs_accounted, run.runs_on_same_data),
              f"{run.runs_accounted} of {run.runs_on_same_data} runs are counted",
              _runs(run)),
        _line("A6", "scope", "private rows do not decide when to stop", run.early_stopping,
              "early stopping looks at private rows", "each look is a further release"),
        _line("A6b", "scope", "private rows do not choose the checkpoint", run.load_best_model,
              "the best checkpoint is chosen by private rows", "each look is a further release"),
        _line("A6c", "scope", "trials on private rows are counted",
              None if run.trials_on_private_data is None else run.trials_on_private_data > 0,
              f"{run.trials_on_private_data} trials were judged by private rows", "they compose"),
        _line("A7", "weaker", "the figure is the accountant's upper end",
              _is_not(run.accountant_value, "upper"),
              f"the figure is its {run.accountant_value}", _honest(run)),
        _line("A8", "weaker", "the RDP accountant stayed within its orders",
              run.order_grid_end_hit, "its best order is the end of its grid",
              "the figure is a bound still, and looser than it need be"),
        _line("A9", "scope", "the number of examples is not claimed to be hidden",
              run.n_claimed_private, "the sample rate and the denominator are computed from it",
              "the number of examples is public, whatever is claimed"),
    ]  # fmt: skip


def _releases(run: Described) -> list[Finding]:
    init = None if run.adapter_init is None else run.adapter_init.lower() in (
        "eva", "corda", "lora_ga", "lora-ga")  # fmt: skip
    effect = "a release beside the model that no account counts"
    return [
        _line("L1", "release", "no figures of private batches are logged",
              None if run.logged is None else bool(run.logged),
              f"logged: {', '.join(run.logged or ())}", effect),
        _line("L2", "release", "no figures on private held-back rows are published",
              run.validation_is_private, "validation figures of private rows", effect),
        _line("L3", "release", "checkpoints hold nothing but released values",
              None if run.checkpoints_hold is None else bool(run.checkpoints_hold),
              f"checkpoints hold {', '.join(run.checkpoints_hold or ())}", effect),
        _line("L4", "release", "vocabulary and filters do not come from the rows",
              run.vocabulary_from_data, "learned from private rows", effect),
        _line("L4b", "release", "no weights are counts of private labels", run.class_weights,
              "class weights are counts of private labels", effect),
        _line("L5", "release", "the adapter's first values do not come from the rows", init,
              f"{run.adapter_init} is computed from private rows", effect),
        _line("L6", "release", "export is not calibrated on the rows", run.calibrated_on_data,
              "quantisation was calibrated on private rows", effect),
        _line("L7", "release", "no prompt or index holds private rows", run.private_prompts,
              "private rows are shipped beside the model", _NOTHING),
        _line("L8", "scope", "the base did not see the data", run.base_saw_data,
              "the base was trained on the same data without privacy", _NOTHING),
        _line("L9", "release", "no cache, dump or card holds private rows", run.rows_left_behind,
              "caches, dumps or the model card hold private rows", _NOTHING),
        _line("L10", "scope", "it is said that prompts at use are not covered",
              None if run.says_prompts_not_covered is None else not run.says_prompts_not_covered,
              "the claim does not say so", "the figure is of the weights, and of nothing else"),
    ]  # fmt: skip


def _line(
    id: str,  # noqa: A002 - the field's name
    severity: Severity,
    what: str,
    is_bad: _Bad,
    evidence: str,
    effect: _Effect,
) -> Finding:
    if is_bad is None:
        return Finding(id, severity, "not_checked", what, "not described")
    if not is_bad:
        return Finding(id, severity, "pass", what, "as described")
    # figures take seconds, so they are computed where something failed
    then = effect if isinstance(effect, str) else effect()
    return Finding(id, severity, "fail", what, f"{evidence}; then {then}", then)


def _is(value: str | None, bad: str) -> _Bad:
    return None if value is None else value == bad


def _is_not(value: str | None, good: str) -> _Bad:
    return None if value is None else value != good


def _above(value: int | None) -> _Bad:
    return None if value is None else value > 1


def _less(value: int | None, wanted: int | None) -> _Bad:
    return None if value is None or wanted is None else value < wanted


def _differs(run: Described) -> _Bad:
    if run.sampling is None:
        return None
    assumed = run.accounted_sampling or "poisson"
    if run.sampling == "fixed-size" and assumed == "poisson":
        return False  # has a line of its own, and a figure of its own
    return assumed != "none" and run.sampling != assumed


def _mechanism(run: Described) -> Mechanism | None:
    if not (run.sample_rate and run.noise_multiplier and run.steps and run.delta):
        return None
    return Mechanism(run.sample_rate, run.noise_multiplier, run.steps, run.delta, run.num_examples)


def _then(run: Described, of: Callable[[Mechanism], float]) -> _Effect:
    mechanism = _mechanism(run)
    if mechanism is None:
        return "a larger epsilon (rate, noise, steps and delta would tell which)"
    return lambda: provable.said(of(mechanism))


def _honest(run: Described) -> _Effect:
    return _then(run, provable.honest)


def _claimed(run: Described) -> _Effect:
    if run.adjacency != "replace-one":
        return _honest(run)
    return _then(run, _replace_one)


def _replace_one(m: Mechanism) -> float:
    return accountant.epsilon_replace_one(m.sample_rate, m.noise_multiplier, m.steps, m.delta)


def _unamplified(run: Described) -> _Effect:
    return _then(run, provable.without_amplification)


def _truncated(run: Described) -> _Effect:
    return _then(run, lambda m: provable.truncated(m, run.max_batch or 1))


def _draws(run: Described) -> _Effect:
    return _then(run, lambda m: provable.of_draws(m, run.draws_per_noise or 1))


def _fixed_size(run: Described) -> _Effect:
    return _then(run, provable.fixed_size)


def _scaled(run: Described, factor: float | None) -> _Effect:
    return _then(run, lambda m: provable.with_sensitivity(m, factor or 1.0))


def _group(run: Described, size: int | None) -> _Effect:
    if size is None or size > 20:
        return "no epsilon of a person is worth stating"
    return _then(run, lambda m: provable.of_group(m, size))


def _runs(run: Described) -> _Effect:
    return _then(run, lambda m: provable.of_runs(m, run.runs_on_same_data or 1))
