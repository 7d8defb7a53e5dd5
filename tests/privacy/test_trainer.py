"""The mixin on a transformers Trainer of the surface that it asks for."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from privacy.ledger import Ledger, verify
from privacy.mechanism import PoissonSampler, Randomness, SeededRandomness, clip_and_sum
from privacy.plan import DPPlan
from privacy.provable import REFERENCE
from privacy.trainer import LEDGER_HEAD, private_trainer
from privacy.trainer_refusals import refuse_settings

# peft 0.21 reads a property of transformers 5 that was renamed; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

N = 12
TOKENS = 6
Plan = Callable[..., DPPlan]
Model = Callable[..., nn.Module]


@dataclass(frozen=True)
class Batch:
    micro_batches: tuple[dict[str, Tensor], ...]
    num_examples: int


def record(row: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(row)
    return {
        "input_ids": torch.randint(1, 61, (TOKENS,), generator=generator),
        # Of very different lengths; one record has no supervised token at all.
        "supervised": torch.arange(TOKENS) >= (TOKENS if row == 5 else 1 + row % (TOKENS - 1)),
    }


def collate(rows: Sequence[int], micro: int) -> Batch:
    groups = [rows[i : i + micro] for i in range(0, len(rows), micro)]
    return Batch(
        tuple(
            {k: torch.stack([record(r)[k] for r in g]) for k in ("input_ids", "supervised")}
            for g in groups
        ),
        len(rows),
    )


class StandIn(Trainer):  # type: ignore[misc]
    """What finetune's trainer looks like from here."""

    micro = 3
    dropped: tuple[str, ...] = ()

    def __init__(self, *, schedule: Any, **options: Any) -> None:
        self.schedule = schedule
        self.drawn: list[int] = []
        super().__init__(**options)

    def example_losses(
        self, model: nn.Module, micro_batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        ids, supervised = micro_batch["input_ids"], micro_batch["supervised"][:, 1:]
        logits = model(input_ids=ids).logits[:, :-1].float()
        loss = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return (loss * supervised).sum(1), supervised.sum(1).float()

    def made_up_batch(self, lengths: Sequence[int]) -> Batch:
        ids = torch.randint(1, 61, (len(lengths), max(lengths)))
        supervised = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return Batch(({"input_ids": ids, "supervised": supervised},), len(lengths))

    def in_memory(self, batch: Batch, attempt: Callable[[Batch], Any]) -> Any:
        return attempt(batch)

    def get_train_dataloader(self) -> DataLoader[Any]:
        def to_batch(rows: list[int]) -> Batch:
            self.drawn.append(len(rows))
            return collate(rows, self.micro)

        return DataLoader(range(N), batch_sampler=self.schedule, collate_fn=to_batch)  # type: ignore[arg-type]


class Kept(TrainerCallback):  # type: ignore[misc]
    """Keeps what the mechanism hands to the optimizer."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
        self.gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )


@dataclass
class Run:
    trainer: Any
    kept: Kept
    ledger: Ledger


@pytest.fixture
def make_run(tmp_path: Path, make_model: Model, make_a_plan: Plan) -> Callable[..., Run]:
    def make(
        *,
        randomness: Randomness | None = None,
        micro: int = 3,
        model: nn.Module | None = None,
        plan: dict[str, Any] | None = None,
        schedule: Any = None,
        trainer_class: type[Any] = StandIn,
        callbacks: Sequence[Any] = (),
        on_ready: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> Run:
        source = randomness or SeededRandomness(11)
        the_plan = make_a_plan(**{"num_examples": N, "rate": 0.5, "steps": 3, **(plan or {})})
        ledger = Ledger.open(
            tmp_path / "ledger.jsonl", the_plan, data="d", is_private=source.is_private
        )
        kept = Kept()
        arguments = {
            "output_dir": str(tmp_path / "checkpoints"),
            "max_steps": the_plan.steps,
            "learning_rate": 1e-3,
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **settings,
        }
        kind = private_trainer(
            trainer_class, plan=the_plan, ledger=ledger, randomness=source, on_ready=on_ready
        )
        trainer = kind(
            model=model or make_model(target_modules=["q_proj", "down_proj"]),
            args=TrainingArguments(**arguments),
            schedule=PoissonSampler(the_plan, source) if schedule is None else schedule,
            train_dataset=range(N),
            callbacks=[kept, *callbacks],
        )
        trainer.micro = micro
        return Run(trainer, kept, ledger)

    return make


MakeRun = Callable[..., Run]


def weights(trainer: Any) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def test_a_run_takes_its_steps_and_pays_for_each(make_run: MakeRun) -> None:
    run = make_run()
    before = weights(run.trainer)
    result = run.trainer.train()
    assert result.global_step == 3
    assert result.training_loss == 0
    assert verify(run.ledger.path).steps == (1, 2, 3)
    assert len(verify(run.ledger.path).covered) == 1
    after = weights(run.trainer)
    assert all(not torch.equal(before[n], after[n]) for n in before)
    assert not any("forward" in vars(m) for m in run.trainer.model.modules())


def test_without_noise_and_clipping_a_step_is_the_plain_gradient(
    make_run: MakeRun, make_model: Model
) -> None:
    model = make_model(target_modules=["q_proj", "down_proj"])
    everyone = collate(range(N), N).micro_batches[0]
    summed, weight = StandIn.example_losses(None, model, everyone)  # type: ignore[arg-type]
    (summed / weight.clamp(min=1)).sum().div(N).backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    # C far above any norm, and sigma so small that sigma C is nothing.
    plan = {"rate": 1.0, "steps": 1, "clipping_norm": 1e3, "noise_multiplier": 1e-14}
    run = make_run(model=model, plan=plan, micro=5)
    run.trainer.train()
    (found,) = run.kept.gradients
    assert found.keys() == wanted.keys()
    for name in wanted:  # float32, summed in another order
        assert torch.allclose(found[name], wanted[name], atol=1e-7, rtol=1e-5)


def test_a_record_moves_a_step_by_at_most_its_bound(make_run: MakeRun) -> None:
    """The step with and without one record, the noise being the same."""

    class Without(StandIn):
        def get_train_dataloader(self) -> DataLoader[Any]:
            loader = super().get_train_dataloader()
            collate_all = loader.collate_fn
            loader.collate_fn = lambda rows: collate_all([r for r in rows if r != 4])
            return loader

    plan = {"rate": 1.0, "steps": 1, "clipping_norm": 0.01, "noise_multiplier": 1e-14}
    steps = []
    for kind in (StandIn, Without):
        run = make_run(plan=plan, trainer_class=kind)
        run.trainer.train()
        steps.append(torch.cat([g.flatten() for g in run.kept.gradients[0].values()]))
        run.ledger.path.unlink()
    moved = float((steps[0] - steps[1]).double().norm()) * N
    assert 0.0099 < moved <= 0.01 * (1 + 1e-4)  # float32 sums of 12


def test_no_record_long_or_short_moves_the_sum_beyond_its_bound(make_run: MakeRun) -> None:
    """Search for the worst: any lengths, any bound, any record, one long record among short ones.

    Divided by the tokens of its batch, the same losses let one record move the sum by several
    times its bound, and the search must find that, or it would find nothing.
    """
    trainer = make_run().trainer
    trainer.per_record.attach(trainer.model)
    worst = {"record": 0.0, "batch": 0.0}

    def rows_of(lengths: Sequence[int], seed: int, alike: bool) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        size = (len(lengths), max(lengths))
        ids = torch.randint(1, 61, size, generator=generator)
        if alike:  # then their gradients add up in one direction
            ids[1:-1] = ids[0]
        return {
            "input_ids": ids,
            "supervised": torch.arange(size[1]) < torch.tensor(lengths)[:, None],
        }

    def sum_of(rows: dict[str, Tensor], bound: float, mean: str) -> tuple[Tensor, float]:
        summed, weight = trainer.example_losses(trainer.model, rows)
        losses = summed / (weight if mean == "record" else weight.sum())
        gradients = trainer._record_gradients(losses.sum(), len(losses))
        if not bound:
            _, norms, _ = clip_and_sum(gradients, 1.0)
            bound = float(norms.max())
        clipped, _, _ = clip_and_sum(gradients, bound)
        return torch.cat([c.double().flatten() for c in clipped]) / bound, bound

    @settings(max_examples=20, deadline=None)
    @given(
        short=st.lists(st.integers(2, 4), min_size=1, max_size=12),
        long=st.integers(20, 40),
        left_out=st.integers(0, 12),
        bound=st.sampled_from([0.0, 1e-3, 0.1, 10.0]),  # 0: the largest norm, nothing clipped
        seed=st.integers(0, 99),
        alike=st.booleans(),
    )
    @example([2] * 12, 40, 0, 0.0, 0, True)
    def search(
        short: list[int], long: int, left_out: int, bound: float, seed: int, alike: bool
    ) -> None:
        lengths = [*short, long]
        rows = rows_of(lengths, seed, alike)
        chosen = [i for i in range(len(lengths)) if i != len(lengths) - 1 - left_out % len(lengths)]
        others = {name: tensor[chosen] for name, tensor in rows.items()}
        for mean in worst:
            with_it, C = sum_of(rows, bound, mean)
            without, _ = sum_of(others, C, mean)
            worst[mean] = max(worst[mean], float((with_it - without).norm()))

    search()
    assert 0.999 < worst["record"] <= 1 + 1e-4  # float32 sums of up to 13 records
    assert worst["batch"] > 3


@pytest.mark.parametrize("micro", [1, 3, 64])
def test_micro_batches_do_not_change_a_step(make_run: MakeRun, micro: int) -> None:
    reference = make_run(micro=4)
    reference.trainer.train()
    reference.ledger.path.unlink()
    run = make_run(micro=micro)
    run.trainer.train()
    for found, wanted in zip(run.kept.gradients, reference.kept.gradients, strict=True):
        for name in wanted:
            assert (found[name] - wanted[name]).abs().max() < 1e-6


@pytest.mark.parametrize("checkpointing", [False, True])
def test_empty_draws_are_noise_and_nothing_else(make_run: MakeRun, checkpointing: bool) -> None:
    plan = {"rate": 0.001, "steps": 6}
    run = make_run(plan=plan, activation_checkpointing=checkpointing)
    assert run.trainer.train().global_step == 6
    assert run.trainer.drawn.count(0) >= 5
    assert run.ledger.charged == 6
    noise = torch.cat([g.flatten() for g in run.kept.gradients[0].values()])
    expected_std = 1.0 * 1.0 / (0.001 * N)
    assert float(noise.std()) == pytest.approx(expected_std, rel=0.1)
    first, second = (
        torch.cat([g.flatten() for g in run.kept.gradients[i].values()]) for i in (0, 1)
    )
    assert abs(float(torch.corrcoef(torch.stack((first, second)))[0, 1])) < 0.2


def test_a_record_that_is_not_finite_does_not_poison_the_model(make_run: MakeRun) -> None:
    class Infinite(StandIn):
        def example_losses(
            self, model: nn.Module, micro_batch: dict[str, Tensor]
        ) -> tuple[Tensor, Tensor]:
            summed, weight = super().example_losses(model, micro_batch)
            scale = torch.ones_like(summed)
            scale[-1] = torch.inf
            return summed * scale, weight

    run = make_run(trainer_class=Infinite, plan={"rate": 1.0, "steps": 1})
    run.trainer.train()
    assert all(bool(p.isfinite().all()) for p in weights(run.trainer).values())


def test_dropout_is_no_coupling_of_records(make_run: MakeRun, make_model: Model) -> None:
    """Its masks differ from batch to batch, so the test of the model must not draw them."""
    model = make_model(target_modules=["q_proj"], lora_dropout=0.5)
    run = make_run(model=model)
    run.trainer.train()
    assert run.ledger.charged == 3


def test_bfloat16_trains(make_run: MakeRun) -> None:
    run = make_run(bf16=True, activation_checkpointing=True)
    run.trainer.train()
    assert run.ledger.charged == 3
    assert all(bool(p.isfinite().all()) for p in weights(run.trainer).values())


def test_nothing_private_is_logged(make_run: MakeRun) -> None:
    run = make_run()
    run.trainer.train()
    assert len(run.trainer.state.log_history) == 3
    for line in run.trainer.state.log_history:
        assert set(line) <= {"learning_rate", "epoch", "step"}
    assert run.trainer.state.total_flos == 0


def test_a_checkpoint_holds_its_ledger_line_and_no_generator(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(save_strategy="steps", save_steps=2)
    run.trainer.train()
    folder = tmp_path / "checkpoints" / "checkpoint-2"
    stamp = json.loads((folder / LEDGER_HEAD).read_text())
    assert run.ledger.charge_of(stamp["head"]) == stamp["charge"] == 2
    assert not list(folder.glob("rng_state*"))


class Killed(Exception):
    pass


class KillAt(TrainerCallback):  # type: ignore[misc]
    """Dies when a step has been charged and not yet saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step + 1 == self.step:
            raise Killed


def test_a_killed_run_goes_on_and_spends_no_more_than_planned(
    make_run: MakeRun, tmp_path: Path
) -> None:
    settings = {"plan": {"steps": 6}, "save_strategy": "steps", "save_steps": 2}
    run = make_run(callbacks=[KillAt(4)], **settings)
    with pytest.raises(Killed):
        run.trainer.train()
    assert verify(run.ledger.path).steps == (1, 2, 3, 4)

    again = make_run(randomness=SeededRandomness(12), **settings)
    assert again.ledger.remaining == 2
    result = again.trainer.train(str(tmp_path / "checkpoints" / "checkpoint-2"))
    assert verify(run.ledger.path).steps == (1, 2, 3, 4, 3, 4)
    assert result.global_step == 4  # two of the six were lost with the process
    assert (tmp_path / "checkpoints" / "checkpoint-4" / LEDGER_HEAD).is_file()

    # Nothing is left: resuming hands back the last checkpoint, starting over is refused.
    last = make_run(**settings)
    before = weights(again.trainer)
    assert last.trainer.train(str(tmp_path / "checkpoints" / "checkpoint-4")).global_step == 4
    assert all(torch.equal(before[n], p) for n, p in weights(last.trainer).items())
    with pytest.raises(BudgetSpent):
        make_run(**settings).trainer.train()
    assert verify(run.ledger.path).steps_charged == 6


def test_it_is_told_once_that_nothing_is_left_to_refuse_and_before_the_first_charge(
    make_run: MakeRun, tmp_path: Path
) -> None:
    charged: list[int] = []

    def ready() -> None:
        charged.append(verify(tmp_path / "ledger.jsonl").steps_charged)

    settings = {"save_strategy": "steps", "save_steps": 3}
    make_run(on_ready=ready, **settings).trainer.train()
    assert charged == [0]
    # a run that has no step left must not escape whoever keeps the account
    make_run(on_ready=ready, **settings).trainer.train(str(tmp_path / "checkpoints/checkpoint-3"))
    assert charged == [0, 3]


def test_who_refuses_the_first_charge_ends_the_run_with_nothing_charged(
    make_run: MakeRun, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise BudgetSpent("the account has no room")

    with pytest.raises(BudgetSpent, match="no room"):
        make_run(on_ready=refuse).trainer.train()
    assert verify(tmp_path / "ledger.jsonl").steps_charged == 0


@pytest.mark.parametrize("harm", ["cut", "unstamped"])
def test_a_checkpoint_that_the_ledger_did_not_pay_for_is_refused(
    make_run: MakeRun, tmp_path: Path, harm: str
) -> None:
    settings = {"save_strategy": "steps", "save_steps": 2}
    run = make_run(**settings)
    run.trainer.train()
    folder = tmp_path / "checkpoints" / "checkpoint-2"
    if harm == "cut":
        lines = run.ledger.path.read_bytes().splitlines(keepends=True)
        run.ledger.path.write_bytes(b"".join(lines[:2]))
    else:
        (folder / LEDGER_HEAD).unlink()
    with pytest.raises(LedgerError, match="checkpoint-2"):
        make_run(**settings).trainer.train(str(folder))


def test_a_step_is_charged_before_it_is_used(make_run: MakeRun) -> None:
    class Spy(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.run: Run | None = None
            self.charged: list[int] = []

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            assert self.run is not None
            self.charged.append(verify(self.run.ledger.path).steps_charged)

    spy = Spy()
    spy.run = make_run(callbacks=[spy])
    spy.run.trainer.train()
    assert spy.charged == [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps"),
        ({"max_grad_norm": 1.0}, "max_grad_norm"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"save_strategy": "best", "metric_for_best_model": "loss"}, "choose the checkpoint"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size"),
        ({"include_num_input_tokens_seen": "all"}, "include_num_input_tokens_seen"),
    ],
)
def test_a_setting_under_which_epsilon_would_not_hold_is_refused(
    make_run: MakeRun, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(PrivacyError, match=named):
        make_run(**settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("load_best_model_at_end", True),
        ("fp16", True),
        ("use_liger_kernel", True),
        ("packing", True),
        ("padding_free", True),
    ],
)
def test_settings_that_this_machine_cannot_make_are_refused(
    make_run: MakeRun, name: str, value: object
) -> None:
    arguments = make_run().trainer.args
    setattr(arguments, name, value)
    with pytest.raises(PrivacyError, match=name):
        refuse_settings(arguments, REFERENCE)


def test_early_stopping_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    run.trainer.add_callback(EarlyStoppingCallback(1))
    with pytest.raises(PrivacyError, match="Early stopping"):
        run.trainer.train()
    assert run.ledger.charged == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_dora": True, "target_modules": ["q_proj"]}, "DoRA"),
        ({"target_modules": ["q_proj", "lm_head"]}, "head"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "head"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, "embed_tokens"),
    ],
)
def test_a_model_that_cannot_be_clipped_is_refused(
    make_run: MakeRun, make_model: Model, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(PrivacyError, match=named):
        make_run(model=make_model(**options))


def test_an_adapter_that_begins_from_the_data_is_refused(
    make_run: MakeRun, make_model: Model
) -> None:
    model = make_model(target_modules=["q_proj"])
    model.peft_config["default"].init_lora_weights = "eva"  # type: ignore[index, union-attr]
    with pytest.raises(PrivacyError, match="eva"):
        make_run(model=model)


class Shuffled(BatchSampler):
    def __init__(self) -> None:
        super().__init__(SequentialSampler(range(N)), 4, drop_last=False)

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()


def test_batches_that_are_not_drawn_as_accounted_are_refused(
    make_run: MakeRun, make_a_plan: Plan
) -> None:
    with pytest.raises(PrivacyError, match="Shuffled"):
        make_run(schedule=Shuffled()).trainer.train()
    other = PoissonSampler(make_a_plan(num_examples=N, rate=0.6, steps=3), SeededRandomness(0))
    with pytest.raises(PrivacyError, match="Poisson"):
        make_run(schedule=other).trainer.train()


def test_a_plan_for_other_data_or_steps_is_refused(make_run: MakeRun) -> None:
    run = make_run(plan={"num_examples": N + 1, "denominator": 0.5 * (N + 1)})
    with pytest.raises(PrivacyError, match="13 examples and the data holds 12"):
        run.trainer.train()
    run.ledger.path.unlink()
    with pytest.raises(PrivacyError, match="4 steps and the plan has 3"):
        make_run(max_steps=4).trainer.train()


def test_losses_that_couple_records_are_refused(make_run: MakeRun) -> None:
    class Contrastive(StandIn):
        def example_losses(
            self, model: nn.Module, micro_batch: dict[str, Tensor]
        ) -> tuple[Tensor, Tensor]:
            summed, weight = super().example_losses(model, micro_batch)
            return summed * (1 + summed.mean()), weight

    run = make_run(trainer_class=Contrastive)
    with pytest.raises(PrivacyError, match=r"isolation: .* couples the records"):
        run.trainer.train()
    assert run.ledger.charged == 0


def test_a_loss_over_the_tokens_of_the_batch_is_refused(make_run: MakeRun) -> None:
    """Each loss has a gradient in its own row alone, and still depends on who else is there."""

    class TokenMean(StandIn):
        def example_losses(
            self, model: nn.Module, micro_batch: dict[str, Tensor]
        ) -> tuple[Tensor, Tensor]:
            summed, weight = super().example_losses(model, micro_batch)
            return summed / weight.sum(), (weight > 0).float()

    run = make_run(trainer_class=TokenMean)
    with pytest.raises(PrivacyError, match=r"remove-one: .* left its batch"):
        run.trainer.train()
    assert run.ledger.charged == 0


def test_a_tensor_of_the_optimizer_that_is_not_clipped_is_refused(make_run: MakeRun) -> None:
    class Greedy(StandIn):
        def create_optimizer(self, *args: Any, **options: Any) -> Any:
            made = super().create_optimizer(*args, **options)
            made.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
            return made

    run = make_run(trainer_class=Greedy)
    with pytest.raises(PrivacyError, match=r"coverage: .* a tensor of the optimizer"):
        run.trainer.train()
    assert run.ledger.charged == 0


def test_a_tensor_that_becomes_trainable_later_is_refused(make_run: MakeRun) -> None:
    class Thaw(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
            model.get_input_embeddings().requires_grad_(True)

    run = make_run(callbacks=[Thaw()])
    with pytest.raises(PrivacyError, match=r"coverage: .*embed_tokens"):
        run.trainer.train()
    assert run.ledger.charged == 0


def test_the_self_test_on_the_model_is_told(make_run: MakeRun) -> None:
    told: list[Any] = []
    run = make_run()
    type(run.trainer).on_checks = staticmethod(told.extend)
    run.trainer.train()
    assert [check.name for check in told] == ["coverage", "isolation", "remove-one"]
    assert all(check.passed for check in told)
    assert told[-1].value == pytest.approx(1, abs=1e-4)  # the largest record itself


def test_more_or_fewer_losses_than_examples_are_refused(make_run: MakeRun) -> None:
    class Packed(StandIn):
        def get_train_dataloader(self) -> DataLoader[Any]:
            loader = super().get_train_dataloader()
            loader.collate_fn = lambda rows: Batch(collate(rows[::2], 3).micro_batches, len(rows))
            return loader

    run = make_run(trainer_class=Packed, plan={"rate": 1.0})
    with pytest.raises(PrivacyError, match="packing"):
        run.trainer.train()


def test_the_ledger_must_be_of_this_plan_and_this_randomness(
    tmp_path: Path, make_a_plan: Plan
) -> None:
    plan = make_a_plan()
    ledger = Ledger.open(tmp_path / "l", plan, data="d", is_private=True)
    with pytest.raises(LedgerError, match="another plan"):
        private_trainer(StandIn, plan=make_a_plan(steps=9), ledger=ledger)
    with pytest.raises(LedgerError, match="is_private"):
        private_trainer(StandIn, plan=plan, ledger=ledger, randomness=SeededRandomness(1))


def test_by_default_noise_comes_from_the_operating_system(make_run: MakeRun) -> None:
    from privacy.mechanism import OS_RANDOMNESS

    gradients = []
    for _ in range(2):  # transformers seeds everything with 42 both times
        run = make_run(randomness=OS_RANDOMNESS, plan={"rate": 0.001, "steps": 1})
        run.trainer.train()
        assert verify(run.ledger.path).is_private
        run.ledger.path.unlink()
        gradients.append(next(iter(run.kept.gradients[0].values())))
    assert not torch.equal(*gradients)
