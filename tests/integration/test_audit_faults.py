"""Faults planted in the files of one private run: each is found by its line of the check-list."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.merge import adapter_identity
from privacy.ledger import Ledger, verify
from privacy.plan import DPPlan
from recipes import auditing, config
from recipes.auditing import Audit
from recipes.errors import RunDiffers
from recipes.public_recipe import settings_of
from tests.cli import assay_here, rows_of, write_recipe, write_rows

pytestmark = pytest.mark.slow

Plant = Callable[[Path], None]
CANARY = "the texts of the twenty-third customer"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder with one private run, trained and not evaluated."""
    folder = tmp_path_factory.mktemp("private")
    rows = rows_of("classification")
    rows[3]["text"] = f"my card {CANARY}"
    write_rows(folder / "rows.jsonl", rows)
    write_recipe(
        folder,
        "classification",
        tiny_base,
        data={"test": "test.jsonl"},
        privacy={
            "epsilon": None,
            "noise_multiplier": 3.0,
            "budget": {"file": "account.jsonl", "epsilon": 60.0},
        },
        train={"schedule": "constant", "keep_checkpoints": True},
    )
    later = [row | {"id": f"t{i}", "text": f"{row['text']} at noon {i}"} for i, row in
             enumerate(rows_of("classification")[:9])]  # fmt: skip
    write_rows(folder / "test.jsonl", later)
    done = assay_here("train", "recipe.yaml", folder=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def run(story: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil; the record still names the first folder as its source."""
    shutil.copytree(story, tmp_path / "copy")
    record = tmp_path / "copy" / "runs" / "a-run" / "record.json"
    edit(record, source=str(tmp_path / "copy"))
    return record.parent


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def append(path: Path, value: Any) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(value) + "\n")


def of_config(**values: Any) -> Plant:
    return lambda run: edit(run / "adapter" / "adapter_config.json", **values)


def of_record(**values: Any) -> Plant:
    return lambda run: edit(run / "record.json", **values)


def of_training(**values: Any) -> Plant:
    def plant(run: Path) -> None:
        record = json.loads((run / "record.json").read_text())
        edit(run / "record.json", training=record["training"] | values)

    return plant


def of_tensors(change: Callable[[dict[str, Any]], None]) -> Plant:
    """Rewrite the header of the adapter's file."""

    def plant(run: Path) -> None:
        path = run / "adapter" / "adapter_model.safetensors"
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return plant


def magnitude(header: dict[str, Any]) -> None:
    name = next(iter(k for k in header if "lora_A" in k))
    header[name.replace("lora_A", "lora_magnitude_vector")] = header[name]


def narrow(header: dict[str, Any]) -> None:
    for name, value in header.items():
        if name != "__metadata__":
            value["dtype"] = "BF16"


def ledger_again(*, covered: tuple[str, ...] = ("c", "c", "c"), **options: Any) -> Plant:
    """Write another ledger in the place of the run's own, whole in itself."""

    def plant(run: Path) -> None:
        path = run / "ledger.jsonl"
        old = verify(path)
        path.unlink()
        fields = vars(old.plan) | options.get("plan", {})
        ledger = Ledger.open(
            path,
            DPPlan(**fields),
            data=options.get("data", old.data),
            is_private=options.get("is_private", True),
        )
        for step, one in enumerate(covered[: ledger.plan.steps], start=1):
            ledger.charge(step, covered=one)

    return plant


def ledger_lines(change: Callable[[list[str]], list[str]]) -> Plant:
    def plant(run: Path) -> None:
        path = run / "ledger.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return plant


def self_test(name: str, **values: Any) -> Plant:
    def plant(run: Path) -> None:
        lines = json.loads((run / "record.json").read_text())["privacy_self_test"]
        assert name in [line["name"] for line in lines]
        changed = [line | values if line["name"] == name else line for line in lines]
        edit(run / "record.json", privacy_self_test=changed)

    return plant


def write(name: str, text: str) -> Plant:
    def plant(run: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)

    return plant


def state_of_trainer(**values: Any) -> Plant:
    def plant(run: Path) -> None:
        [path] = list((run / "checkpoints").glob("*/trainer_state.json"))[-1:]
        path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=2))

    return plant


def resolved(run: Path, **sections: Any) -> None:
    """Change settings in the run's resolved recipe."""
    from ruamel.yaml import YAML

    yaml = YAML()
    path = run / "resolved.yaml"
    values = yaml.load(path)
    for section, change in sections.items():
        values[section].update(change)
    with path.open("w") as stream:
        yaml.dump(values, stream)


def on_a_merged_base(run: Path) -> None:
    base = run.parent.parent / "merged-base"
    base.mkdir()
    (base / "merge.json").write_text("{}")
    resolved(run, base={"checkpoint": str(base)})


def without_account(run: Path) -> None:
    resolved(run, privacy={"budget": None})
    shutil.copytree(run, run.parent / "second")


def make_consistent(run: Path) -> None:
    """Let the record name what lies in the folder, as it would of a run made with the fault."""
    record = json.loads((run / "record.json").read_text())
    recipe = config.load(run / "resolved.yaml")
    record["training"]["adapter"] = adapter_identity(run / "adapter")
    record["base"]["checkpoint"] = recipe.base.checkpoint
    record["settings"] = settings_of(recipe)
    edit(run / "record.json", **record)


def account_lines(change: Callable[[list[str]], list[str]]) -> Plant:
    def plant(run: Path) -> None:
        path = run.parent.parent / "account.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return plant


FAULTS: list[tuple[str, str, Plant]] = [
    ("N3", "a generator state in a checkpoint", write("checkpoints/c-1/rng_state.pth", "x")),
    ("L3", "a generator state in the folder", write("rng_state_0.pth", "x")),
    ("L1", "a loss in the log", lambda run: append(run / "training.jsonl", {"loss": 2.1})),
    ("L1", "a gradient norm in the log",
     lambda run: append(run / "training.jsonl", {"step": 3, "grad_norm": 0.4})),
    ("L1", "token counts in the trainer's state",
     state_of_trainer(log_history=[{"step": 1, "num_tokens": 812}])),
    ("L1", "token counts in the record", of_training(num_tokens=4711)),
    ("A6", "a best checkpoint by private rows", state_of_trainer(best_metric=0.7)),
    ("A6", "a best step in the record", of_training(best_step=2)),
    ("L5", "an adapter that begins from the rows (eva)", of_config(init_lora_weights="eva")),
    ("L5", "an adapter that begins from the rows (corda)", of_config(init_lora_weights="corda")),
    ("D3", "DoRA", of_config(use_dora=True)),
    ("D3", "trained embeddings", of_config(modules_to_save=["embed_tokens"])),
    ("D3", "an adapter of another kind", of_config(peft_type="IA3")),
    ("D3", "trained tokens", of_config(trainable_token_indices=[1, 2])),
    ("D3", "an adapted output head", of_config(target_modules=["q_proj", "lm_head"])),
    ("D3", "a magnitude among the tensors", of_tensors(magnitude)),
    ("D3", "other tensors clipped mid-run", ledger_again(covered=("c", "d", "d"))),
    ("N4", "an adapter in bfloat16", of_tensors(narrow)),
    ("L9", "a cache of rows", write("cache/rows.arrow", "x")),
    ("L9", "a pickle", write("rows.pkl", "x")),
    ("L7", "a training text in a prompt", write("prompt.txt", f"As in: my card {CANARY}")),
    ("L7", "a training text in JSON", write("few_shot.json", json.dumps([f"my card {CANARY}"]))),
    ("A1", "an edited ledger", ledger_lines(lambda t: [t[0].replace("3.0", "9.0"), *t[1:]])),
    ("A1", "a torn ledger", ledger_lines(lambda t: [*t[:-1], t[-1][:40]])),
    ("A1", "a replayed line", ledger_lines(lambda t: [*t, t[-1]])),
    ("A1", "a removed line", ledger_lines(lambda t: [t[0], *t[2:]])),
    ("A1", "no ledger", lambda run: (run / "ledger.jsonl").unlink()),
    ("A1", "the ledger of other rows", ledger_again(data="sha256:other")),
    ("A1", "the ledger of another run on the same rows", ledger_again(covered=("c",) * 99)),
    ("A4", "lines missing at the end", ledger_lines(lambda t: t[:-1])),
    ("A4", "more steps taken than charged", of_training(num_steps=900)),
    ("N2", "a seeded test run", ledger_again(is_private=False)),
    ("N6", "hardly any noise", ledger_again(plan={"noise_multiplier": 0.2})),
    ("A10", "an epsilon that means nothing", ledger_again(plan={"noise_multiplier": 0.35})),
    ("A3", "a delta near 1 / n", ledger_again(plan={"delta": 0.02})),
    ("N1", "no self-test", of_record(privacy_self_test=[])),
    ("N1", "half the noise in the self-test", self_test("noise-scale", passed=False)),
    ("D4", "twice the bound in the self-test", self_test("sensitivity", passed=False)),
    ("S1", "shuffling in the self-test", self_test("sampling-of-examples", passed=False)),
    ("S5", "empty draws in the self-test", self_test("empty-draw", passed=False)),
    ("D7", "a spreading NaN in the self-test", self_test("non-finite-record", passed=False)),
    ("A5", "no account", lambda run: (run.parent.parent / "account.jsonl").unlink()),
    ("A5", "an edited account", account_lines(lambda t: [t[0].replace("60.0", "90.0"), *t[1:]])),
    ("A5", "an account without this run", account_lines(lambda t: t[:1])),
    ("A5", "a second run on no account", without_account),
    ("L8", "a base that is itself a merged model", on_a_merged_base),
    ("A6", "early stopping", lambda run: resolved(run, train={"early_stopping": 2})),
    ("L4", "class weights", lambda run: resolved(run, train={"class_weights": "balanced"})),
    ("D3", "DoRA in the recipe", lambda run: resolved(run, adapter={"use_dora": True})),
    ("A3", "delta of 1 / n or more", lambda run: resolved(run, privacy={"delta": 0.5})),
]  # fmt: skip


@pytest.fixture(scope="module")
def clean(story: Path) -> Audit:
    return auditing.audit(story / "runs" / "a-run")


def test_a_clean_run_raises_no_alarm(clean: Audit) -> None:
    assert [f.id for f in clean.findings if f.status == "fail"] == []
    # what a classifier of an example-level run always has to be told
    assert {f.id for f in clean.findings if f.status == "warn"} == {"L4"}


def test_the_corpus_is_large_and_each_planted_fault_is_named_once() -> None:
    assert len(FAULTS) >= 50
    assert len({what for _, what, _ in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(("line", "what", "plant"), FAULTS, ids=[what for _, what, _ in FAULTS])
def test_each_planted_fault_is_found_by_its_line(
    run: Path, clean: Audit, line: str, what: str, plant: Plant
) -> None:
    before = {f.id: f.status for f in clean.findings}
    plant(run)
    make_consistent(run)
    found = {f.id: f for f in auditing.audit(run).findings}
    assert found[line].status in ("fail", "warn"), what
    if line != "L4":  # warned of already
        assert before[line] not in ("fail", "warn")
    assert found[line].evidence
    assert CANARY not in json.dumps([f.evidence for f in found.values()])


@pytest.mark.parametrize(
    ("name", "values"),
    [("data.json", {"fingerprint": "sha256:other"}), ("record.json", {"is_private": False})],
)
def test_documents_of_different_runs_are_not_audited(
    run: Path, name: str, values: dict[str, Any]
) -> None:
    edit(run / name, **values)
    with pytest.raises(RunDiffers, match=name):
        auditing.audit(run)
