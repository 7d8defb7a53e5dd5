"""A private run that is refused has spent nothing: the account is as it was, the ledger too.

Each case is a refusal that is reached between the recipe and the first charge, provoked for real
where that takes a moment, and planted where it would take another machine.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune import train as training
from finetune import trainers
from privacy import budget, model_test
from privacy.ledger import Ledger, verify
from privacy.plan import BudgetConfig, DPPlan, PrivacyConfig, make_plan
from privacy.self_test import Check
from recipes import private_rule
from tests.cli import Done, assay_here, flip_a_byte, write_recipe

LIMIT = BudgetConfig(file="account.jsonl", epsilon=60.0)
FAILED = Check("planted", False, 1.0, 0.0, 0.0, "0", "a fault that was planted")

Plant = Callable[[Path, pytest.MonkeyPatch, ExitStack], None]
"""Prepares a refusal in the folder of the recipe; what it opens is closed after the command."""


@dataclass(frozen=True)
class Refusal:
    name: str
    told: str
    plant: Plant = lambda *_: None
    sections: dict[str, Any] = field(default_factory=dict)
    code: int = 2


def changing(target: Any, name: str, value: Any) -> Plant:
    return lambda _, patch, __: patch.setattr(target, name, value)


def setting(name: str, value: str) -> Plant:
    return lambda _, patch, __: patch.setenv(name, value)


def hold_the_lock(folder: Path, _: pytest.MonkeyPatch, opened: ExitStack) -> None:
    run = folder / "runs" / "a-run"
    run.mkdir(parents=True)
    fcntl.flock(opened.enter_context((run / ".lock").open("w")), fcntl.LOCK_EX)


def damage_the_account(folder: Path, *_: object) -> None:
    flip_a_byte(folder / LIMIT.file, -5)


def fill_an_account(folder: Path, *_: object) -> None:
    put_another_run_on(folder, LIMIT.model_copy(update={"file": "full.jsonl", "epsilon": 0.6}))


def damage_the_base(folder: Path, *_: object) -> None:
    base = shutil.copytree(json.loads((folder / "recipe.yaml").read_text())["base"]["checkpoint"],
                           folder / "base")  # fmt: skip
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    edit(folder, base={"checkpoint": str(base)})


def no_row_that_is_learned(_: Path, patch: pytest.MonkeyPatch, __: ExitStack) -> None:
    train = training.train
    from recipes import training as step

    patch.setattr(step, "train", lambda base, _, *more, **how: train(base, [], *more, **how))


def late(name: str, value: Any) -> Plant:
    """A setting that only the trainer has."""

    def plant(_: Path, patch: pytest.MonkeyPatch, __: ExitStack) -> None:
        arguments = training.TrainingArguments
        patch.setattr(
            training, "TrainingArguments", lambda **more: arguments(**(more | {name: value}))
        )

    return plant


def trainable(which: Callable[[str], bool]) -> Plant:
    def plant(_: Path, patch: pytest.MonkeyPatch, __: ExitStack) -> None:
        inject = training.adapters.inject

        def injected(*args: Any) -> Any:
            model = inject(*args)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(which(name))
            return model

        patch.setattr(training.adapters, "inject", injected)

    return plant


def stop_early(_: Path, patch: pytest.MonkeyPatch, __: ExitStack) -> None:
    made = training._trainer

    def with_callback(*args: Any) -> Any:
        trainer = made(*args)
        trainer.add_callback(training.EarlyStoppingCallback())
        return trainer

    patch.setattr(training, "_trainer", with_callback)


def in_the_first_forward(error: BaseException) -> Plant:
    def fails(*_: object) -> None:
        raise error

    def plant(_: Path, patch: pytest.MonkeyPatch, __: ExitStack) -> None:
        patch.setattr(trainers.ClassificationTrainer, "example_losses", fails)

    return plant


def another_sampler(_: Path, patch: pytest.MonkeyPatch, __: ExitStack) -> None:
    def all_rows(plan: DPPlan, **_: object) -> list[list[int]]:
        return [[0]] * plan.steps

    patch.setattr(private_rule, "PoissonSampler", all_rows)


def other_steps(_: Path, patch: pytest.MonkeyPatch, __: ExitStack) -> None:
    sampler = private_rule.PoissonSampler

    def shorter(plan: DPPlan, **more: Any) -> Any:
        return sampler(replace(plan, steps=plan.steps - 1), **more)

    patch.setattr(private_rule, "PoissonSampler", shorter)


def edit(folder: Path, **sections: Any) -> None:
    path = folder / "recipe.yaml"
    values = json.loads(path.read_text())
    for name, section in sections.items():
        values[name] |= section
    path.write_text(json.dumps(values))


def with_account(**values: Any) -> dict[str, Any]:
    return {"privacy": PRIVATE | {"budget": {**LIMIT.model_dump(), **values}}}


PRIVATE: dict[str, Any] = {
    "epsilon": None,
    "noise_multiplier": 3.0,
    "budget": LIMIT.model_dump(),
}

REFUSALS = (
    # the recipe
    Refusal("an unknown setting", "train.learning_rat", sections={"train": {"learning_rat": 1}}),
    Refusal("a setting that is not private", "train.class_weights",
            sections={"train": {"class_weights": "balanced"}}),
    Refusal("a unit that is not kept together", "must also be data.group",
            sections={"privacy": PRIVATE | {"unit": "id"}}),
    Refusal("a tracker that is missing", "is not installed",
            sections={"train": {"report_to": ["nobody"]}}),
    # the machine
    Refusal("two processes", "world_size is 2", setting("WORLD_SIZE", "2")),
    Refusal("two visible GPUs", "Training runs on 2 devices",
            changing(torch.cuda, "device_count", lambda: 2)),
    Refusal("another process in the folder", "another process", hold_the_lock),
    # base and data
    Refusal("no base", "base.checkpoint", lambda folder, *_: edit(
        folder, base={"checkpoint": "nowhere"})),
    Refusal("a damaged base", "has 1", damage_the_base, code=5),
    Refusal("rows without a label", "label", lambda folder, *_: edit(
        folder, data={"columns": {"label": "none"}})),
    Refusal("nothing to learn", "no row to train on", no_row_that_is_learned),
    # the mechanism and the account
    Refusal("a failing self-test", "failed its self-test",
            changing(private_rule, "self_test", lambda _: [FAILED])),
    Refusal("an account without room", "Nothing was trained", code=4, plant=fill_an_account,
            sections=with_account(file="full.jsonl", epsilon=0.6)),
    Refusal("a first run that is too much", "Nothing was trained", code=4,
            sections=with_account(file="new.jsonl", epsilon=0.3)),
    Refusal("an account of another limit", "does not change", code=5,
            sections=with_account(epsilon=50.0)),
    Refusal("an account of a delta that protects nobody", "smaller delta", code=5,
            sections=with_account(delta=0.5)),
    Refusal("a damaged account", "does not match its hash", damage_the_account, code=5),
    # the model and the trainer
    Refusal("a target that no layer has", "adapter.targets",
            sections={"adapter": {"targets": ["nope"]}}),
    Refusal("nothing trainable", "", trainable(lambda _: False)),
    Refusal("a trainable tensor that is not clipped", "gradients per record exist for nn.Linear",
            trainable(lambda name: "lora" in name or "embed" in name)),
    Refusal("a setting found late", "label_smoothing_factor", late("label_smoothing_factor", 0.1)),
    Refusal("a clip of the whole gradient", "max_grad_norm", late("max_grad_norm", 1.0)),
    Refusal("two devices found late", "Training runs on 2 devices",
            changing(training.TrainingArguments, "n_gpu", 2)),
    Refusal("early stopping found late", "Early stopping", stop_early),
    Refusal("another sampler", "drawn by list", another_sampler),
    Refusal("another number of steps", "accounts for", other_steps),
    # the first step, before its charge
    Refusal("a model whose records are coupled", "The self-test on the model failed",
            changing(model_test, "remove_one", lambda *_: FAILED)),
    Refusal("no memory", "out of memory", in_the_first_forward(MemoryError())),
    Refusal("a bug", "", in_the_first_forward(AssertionError("a bug")), code=1),
    Refusal("an interruption", "", in_the_first_forward(KeyboardInterrupt()), code=130),
)  # fmt: skip


def put_another_run_on(folder: Path, limit: BudgetConfig) -> None:
    plan = make_plan(
        PrivacyConfig(epsilon=None, noise_multiplier=8.0), num_examples=30, batch_size=8, epochs=1
    )
    budget.reserve(folder / limit.file, limit, plan, run="f" * 64, name="another", data="sha256:d")


@contextmanager
def prepared(folder: Path, base: Path, sections: dict[str, Any], plant: Plant) -> Iterator[None]:
    """A recipe, an account that another run is on, and a refusal."""
    put_another_run_on(folder, LIMIT)
    write_recipe(folder, "classification", base, **({"privacy": PRIVATE} | sections))
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        plant(folder, patch, opened)
        yield


def spending(folder: Path) -> dict[str, bytes]:
    """All accounts and ledgers that there are."""
    paths = [*folder.glob("*.jsonl"), folder / "runs" / "a-run" / "ledger.jsonl"]
    return {p.name: p.read_bytes() for p in paths if p.exists() and p.name != "rows.jsonl"}


def train(folder: Path) -> Done:
    return assay_here("train", "recipe.yaml", folder=folder)


QUICK = ("two processes", "a first run that is too much", "a setting found late", "a bug")
"""One of each kind; the others take as long."""


def cases(refusals: Sequence[Refusal]) -> pytest.MarkDecorator:
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "refusal",
        [pytest.param(r, id=r.name, marks=() if r.name in QUICK else slow) for r in refusals],
    )


@cases(REFUSALS)
def test_a_run_that_is_refused_is_not_charged(
    tiny_base: Path, tmp_path: Path, refusal: Refusal
) -> None:
    with prepared(tmp_path, tiny_base, refusal.sections, refusal.plant):
        before = spending(tmp_path)
        done = train(tmp_path)
    assert done.code == refusal.code, done.err
    assert refusal.told in done.err
    assert spending(tmp_path) == before
    assert "ledger.jsonl" not in before


def test_when_the_account_is_charged_nothing_is_left_that_could_refuse(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the charge of the account and that of the ledger nothing else is called."""
    seen: list[str] = []
    reserve, charge = budget.reserve, Ledger.charge
    sums, tested = trainers.BatchSteps.in_memory, model_test.remove_one

    def note(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **more: Any) -> Any:
            done = call(*args, **more)
            seen.append(name)
            return done

        return noted

    monkeypatch.setattr(budget, "reserve", note("account", reserve))
    monkeypatch.setattr(Ledger, "charge", note("ledger", charge))
    monkeypatch.setattr(trainers.BatchSteps, "in_memory", note("sums", sums))
    monkeypatch.setattr(model_test, "remove_one", note("tested", tested))
    with prepared(tmp_path, tiny_base, {}, lambda *_: None):
        seen.clear()
        done = train(tmp_path)
    assert done.code == 0, done.err
    steps = verify(tmp_path / "runs" / "a-run" / "ledger.jsonl").plan.steps
    assert seen == ["tested", "sums", "account", "ledger", *["sums", "ledger"] * (steps - 1)]
    assert len(budget.read(tmp_path / LIMIT.file).reservations) == 2


# a run that goes on


@pytest.fixture(scope="module")
def killed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted in its third step, with a checkpoint. Read only."""
    folder = tmp_path_factory.mktemp("killed")
    charge = Ledger.charge

    def stop(self: Ledger, step: int, **more: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt
        charge(self, step, **more)

    with (
        prepared(folder, tiny_base, {"train": {"epochs": 3}}, lambda *_: None),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(Ledger, "charge", stop)
        assert train(folder).code == 130
    assert verify(folder / "runs" / "a-run" / "ledger.jsonl").steps_charged == 2
    return folder


def lose_the_ledger(folder: Path, *_: object) -> None:
    (folder / "runs" / "a-run" / "ledger.jsonl").unlink()


def damage_the_ledger(folder: Path, *_: object) -> None:
    flip_a_byte(folder / "runs" / "a-run" / "ledger.jsonl", 40)


def cut_the_ledger(folder: Path, *_: object) -> None:
    path = folder / "runs" / "a-run" / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))


def lose_the_account(folder: Path, *_: object) -> None:
    (folder / LIMIT.file).unlink()


def change_a_row(folder: Path, *_: object) -> None:
    rows = folder / "rows.jsonl"
    rows.write_text(rows.read_text().replace("again", "once more", 1))


RESUMED = (
    Refusal("no ledger", "does not hold", lose_the_ledger, code=5),
    Refusal("a damaged ledger", "does not match its hash", damage_the_ledger, code=5),
    Refusal("a ledger cut short", "has noted a charge of this run", cut_the_ledger, code=5),
    Refusal("no account", "the account account.jsonl does not know it", lose_the_account, code=5),
    Refusal("other rows", "the rows have changed", change_a_row),
    Refusal("no memory", "out of memory", in_the_first_forward(MemoryError())),
    Refusal("two processes", "world_size is 2", setting("WORLD_SIZE", "2")),
)


@cases(RESUMED)
def test_a_run_that_is_refused_when_it_goes_on_is_not_charged_again(
    killed: Path, tmp_path: Path, refusal: Refusal
) -> None:
    folder = shutil.copytree(killed, tmp_path / "copy")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        refusal.plant(folder, patch, opened)
        before = spending(folder)
        done = train(folder)
    assert done.code == refusal.code, done.err
    assert refusal.told in done.err
    assert spending(folder) == before
