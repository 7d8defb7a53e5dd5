"""Damaged checkpoints are set aside, and the run ends with the adapter it would have had."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune import resume
from finetune.config import AdapterConfig, TrainConfig
from finetune.encoding import Example
from finetune.errors import IntegrityError
from finetune.resume import MANIFEST, STATE, newest_whole
from finetune.train import StepInfo, TrainResult, train
from finetune.watch import TrainingLog
from tests import tiny
from tests.cli import flip_a_byte

CONFIG = TrainConfig(
    epochs=3, batch_size=4, learning_rate=1e-2, logging_steps=5, num_threads=1, warmup_ratio=0
)
NUM_STEPS, KILLED_AT = 6, 5  # checkpoints at 2, 4 and 6


def rows_of(base: Any) -> list[Example]:
    """Eight to learn, and two to hold back: the better the eight are learned, the worse these."""
    chats = tiny.chat_rows(8)
    other = [[row[0], {"role": "assistant", "content": "zzzzzz"}] for row in chats[:2]]
    return tiny.chat_examples(base.tokenizer, [*chats, *other])


def go(
    base_folder: Path,
    folder: Path,
    *,
    killed_at: int | None = None,
    num_held_back: int = 0,
    says: list[str] | None = None,
    **more: Any,
) -> TrainResult:
    """Train with dropout, from the start or from what an interrupted training has left."""
    base = tiny.load_base(base_folder)
    rows = rows_of(base)

    def stop(info: StepInfo) -> None:
        if info.step == killed_at:
            raise KeyboardInterrupt

    return train(
        base,
        rows[:8],
        rows[8 : 8 + num_held_back],
        adapter=AdapterConfig(rank=4, alpha=8.0, dropout=0.1, targets=("q_proj",)),
        config=TrainConfig(**(CONFIG.model_dump() | more)),
        folder=folder,
        on_step=stop,
        say=(says if says is not None else []).append,
    )


def adapter_of(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    go(tiny_base, folder)
    return folder


@pytest.fixture(scope="module")
def killed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, killed in its fifth step. Read only: to be copied."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(KeyboardInterrupt):
        go(tiny_base, folder, killed_at=KILLED_AT)
    return folder


@pytest.fixture
def cut(killed: Path, tmp_path: Path) -> Path:
    """A copy of the killed run."""
    return shutil.copytree(killed, tmp_path / "cut")


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    flip_a_byte(path, path.stat().st_size // 2)


DAMAGES: tuple[Callable[[Path], None], ...] = (truncate, empty, Path.unlink, flip)
FILES = (
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "loss_since_log.json",
    MANIFEST,
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "tokenizer.json",
    "tokenizer_config.json",
    STATE,
    "training_args.bin",
)


def each_damage(files: Sequence[str]) -> pytest.MarkDecorator:
    cases = [pytest.param(f, d, id=f"{f}-{d.__name__}") for f in files for d in DAMAGES]
    return pytest.mark.parametrize(("file", "damage"), cases)


def test_no_file_of_a_checkpoint_is_forgotten_here(killed: Path) -> None:
    newest = killed / "checkpoints" / "checkpoint-4"
    assert sorted(p.name for p in newest.iterdir()) == sorted(FILES)


@each_damage(FILES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_taken(
    cut: Path, file: str, damage: Callable[[Path], None]
) -> None:
    checkpoints = cut / "checkpoints"
    damage(checkpoints / "checkpoint-4" / file)
    found = newest_whole(checkpoints, has_random_state=True)
    if (file, damage) == (MANIFEST, Path.unlink):  # as if an earlier version had saved it
        assert found.checkpoint == checkpoints / "checkpoint-4"
        assert "saved by an earlier version, without hashes" in found.notes[0]
        return
    assert found.checkpoint == checkpoints / "checkpoint-2"
    # a hash that has changed looks like a file that has
    named = file if (file, damage) != (MANIFEST, flip) else ""
    assert f"checkpoint-4 cannot be used: {named}" in found.notes[0]
    assert found.notes[0].endswith("It is kept as damaged-checkpoint-4")
    assert sorted(p.name for p in checkpoints.iterdir()) == ["checkpoint-2", "damaged-checkpoint-4"]
    assert len(list((checkpoints / "damaged-checkpoint-4").iterdir())) >= len(FILES) - 1


@pytest.mark.slow
@each_damage(FILES)
def test_a_run_whose_newest_checkpoint_is_damaged_ends_with_the_same_adapter(
    tiny_base: Path, whole: Path, cut: Path, file: str, damage: Callable[[Path], None]
) -> None:
    damage(cut / "checkpoints" / "checkpoint-4" / file)
    says: list[str] = []
    result = go(tiny_base, cut, says=says)
    assert result.resumed_from in (2, 4)
    assert "checkpoint-4" in says[0]
    assert adapter_of(cut) == adapter_of(whole)


@pytest.mark.parametrize("num_damaged", [0, 1, 2])
def test_however_many_checkpoints_are_damaged_the_adapter_is_the_same(
    tiny_base: Path, whole: Path, cut: Path, num_damaged: int
) -> None:
    for step in (4, 2)[:num_damaged]:
        flip(cut / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt")
    says: list[str] = []
    result = go(tiny_base, cut, says=says)
    assert result.resumed_from == (4, 2, None)[num_damaged]
    assert len(says) == num_damaged + (num_damaged == 2)
    if num_damaged == 2:
        assert says[-1] == "no checkpoint is whole, so training begins at its first step"
    assert adapter_of(cut) == adapter_of(whole)


def test_a_save_that_was_interrupted_is_known_to_be(cut: Path) -> None:
    checkpoints = cut / "checkpoints"
    torn = checkpoints / "checkpoint-5"
    resume.begin(torn)
    for path in (checkpoints / "checkpoint-4").iterdir():
        if path.name != MANIFEST:
            shutil.copy(path, torn)  # all of them are there, and were never sealed
    found = newest_whole(checkpoints, has_random_state=True)
    assert found.checkpoint == checkpoints / "checkpoint-4"
    assert "checkpoint-5 cannot be used: its save was interrupted" in found.notes[0]


def test_a_save_that_dies_at_any_moment_leaves_a_checkpoint_whole_or_known_not_to_be(
    cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = cut / "checkpoints"
    saved, new = checkpoints / "checkpoint-4", checkpoints / "checkpoint-5"
    sync, num_syncs, last = os.fsync, 0, 0

    def die(descriptor: int) -> None:
        nonlocal num_syncs
        num_syncs += 1
        if num_syncs == last:
            raise KeyboardInterrupt
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", die)
    outcomes = []
    while True:
        last, num_syncs = last + 1, 0
        try:
            resume.begin(new)
            for path in saved.iterdir():
                if path.name != MANIFEST:
                    shutil.copy(path, new)
            resume.seal(new)
        except KeyboardInterrupt:
            found = newest_whole(checkpoints, has_random_state=True)
            assert found.checkpoint in (saved, new)
            outcomes.append(found.checkpoint == new)
            for left in (new, checkpoints / "damaged-checkpoint-5"):
                shutil.rmtree(left, ignore_errors=True)
        else:
            break
    # each file, each manifest and its folder, and the folder above
    assert num_syncs == len(FILES) - 1 + 2 * 2 + 2
    assert outcomes == sorted(outcomes)  # unfinished at first, whole at last, nothing between
    assert (outcomes[0], outcomes[-1]) == (False, True)


def test_a_checkpoint_that_is_damaged_twice_is_set_aside_twice(cut: Path) -> None:
    checkpoints = cut / "checkpoints"
    for name in ("damaged-checkpoint-2", "damaged-checkpoint-2-2"):
        shutil.copytree(checkpoints / "checkpoint-2", checkpoints / "again")
        flip(checkpoints / "checkpoint-2" / "optimizer.pt")
        newest_whole(checkpoints, has_random_state=True)
        assert (checkpoints / name).is_dir()
        (checkpoints / "again").rename(checkpoints / "checkpoint-2")


def test_a_renamed_checkpoint_is_not_taken_for_another_step(cut: Path) -> None:
    checkpoints = cut / "checkpoints"
    (checkpoints / "checkpoint-4").rename(checkpoints / "checkpoint-9")
    found = newest_whole(checkpoints, has_random_state=True)
    assert found.checkpoint == checkpoints / "checkpoint-2"
    assert "manifest.json is that of step 4" in found.notes[0]


@pytest.mark.parametrize("manifest", ["[]", "{}", "[" * 5000, '{"version": 2}', "\udcff"])
def test_a_manifest_of_any_kind_is_no_traceback(cut: Path, manifest: str) -> None:
    path = cut / "checkpoints" / "checkpoint-4" / MANIFEST
    path.write_bytes(manifest.encode("utf-8", "surrogateescape"))
    found = newest_whole(path.parents[1], has_random_state=True)
    assert "checkpoint-4 cannot be used: manifest.json is damaged" in found.notes[0]


def test_there_need_be_no_checkpoint(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "none", has_random_state=True) == resume.Found(None, ())


# checkpoints of before


def as_saved_before(checkpoints: Path) -> None:
    for path in checkpoints.glob("*/*"):
        if path.name in (MANIFEST, "loss_since_log.json"):
            path.unlink()


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(
    tiny_base: Path, whole: Path, cut: Path
) -> None:
    as_saved_before(cut / "checkpoints")
    says: list[str] = []
    assert go(tiny_base, cut, says=says).resumed_from == 4
    assert says == [
        "checkpoint-4 was saved by an earlier version, without hashes: its files are there and "
        "load, and whether a number in them has changed since cannot be told"
    ]
    assert adapter_of(cut) == adapter_of(whole)


NEEDED = ("adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", STATE)


@each_damage(NEEDED)
def test_damage_of_an_old_checkpoint_is_seen_as_far_as_it_can_be(
    cut: Path, file: str, damage: Callable[[Path], None]
) -> None:
    checkpoints = cut / "checkpoints"
    as_saved_before(checkpoints)
    damage(checkpoints / "checkpoint-4" / file)
    found = newest_whole(checkpoints, has_random_state=True)
    if damage is flip and file in (NEEDED[0], "scheduler.pt", STATE):
        # two have no sums of their own, and the third's middle is padding, which has none
        assert "cannot be told" in found.notes[-1]
        return
    assert found.checkpoint == checkpoints / "checkpoint-2"
    assert f"checkpoint-4 cannot be used: {file} is" in found.notes[0]


@pytest.mark.parametrize(
    "state", ["[]", "{", "[" * 5000, '{"global_step": 9}', '{"global_step": "x"}']
)
def test_a_state_of_any_kind_is_no_traceback(cut: Path, state: str) -> None:
    as_saved_before(cut / "checkpoints")
    (cut / "checkpoints" / "checkpoint-4" / STATE).write_text(state)
    found = newest_whole(cut / "checkpoints", has_random_state=True)
    assert found.checkpoint == cut / "checkpoints" / "checkpoint-2"


# the best of several


@pytest.fixture(scope="module")
def best_first(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A killed run whose best checkpoint is its first: at 2, of 2 to 10."""
    folder = tmp_path_factory.mktemp("best")
    with pytest.raises(KeyboardInterrupt):
        go(tiny_base, folder, killed_at=11, **BEST)
    state = json.loads((folder / "checkpoints" / "checkpoint-10" / STATE).read_text())
    assert state["best_global_step"] == 2
    return folder


BEST: Any = {"num_held_back": 2, "epochs": 6, "learning_rate": 0.1, "schedule": "constant"}


def test_the_two_newest_checkpoints_are_kept_and_the_best(best_first: Path) -> None:
    kept = sorted(p.name for p in (best_first / "checkpoints").iterdir())
    assert kept == ["checkpoint-10", "checkpoint-2", "checkpoint-8"]


def test_without_the_best_before_it_a_whole_checkpoint_would_end_with_another_adapter(
    tiny_base: Path, best_first: Path, tmp_path: Path
) -> None:
    cut = shutil.copytree(best_first, tmp_path / "cut")
    flip(cut / "checkpoints" / "checkpoint-2" / "adapter_model.safetensors")
    says: list[str] = []
    result = go(tiny_base, cut, says=says, **BEST)
    assert result.resumed_from is None
    assert [note.partition(":")[0] for note in says[:-1]] == [
        "checkpoint-2 cannot be used",
        "checkpoint-8 cannot be used",
        "checkpoint-10 cannot be used",
    ]
    assert "it needs checkpoint-2, the best before it" in says[1]

    moved = shutil.copytree(best_first, tmp_path / "elsewhere")  # its state names the old place
    assert go(tiny_base, moved, **BEST).resumed_from == 10
    assert adapter_of(moved) == adapter_of(cut)


def test_a_best_checkpoint_that_is_damaged_at_the_very_end_is_not_loaded(
    tiny_base: Path, best_first: Path, tmp_path: Path
) -> None:
    cut = shutil.copytree(best_first, tmp_path / "cut")

    def damage(_: StepInfo) -> None:
        empty(cut / "checkpoints" / "checkpoint-2" / "adapter_model.safetensors")

    base = tiny.load_base(tiny_base)
    rows = rows_of(base)
    more = {key: value for key, value in BEST.items() if key != "num_held_back"}
    with pytest.raises(
        IntegrityError, match="checkpoint-2 has the best evaluation loss and cannot"
    ):
        train(
            base, rows[:8], rows[8:], folder=cut, on_step=damage,
            adapter=AdapterConfig(rank=4, alpha=8.0, dropout=0.1, targets=("q_proj",)),
            config=TrainConfig(**(CONFIG.model_dump() | more)),
        )  # fmt: skip
    assert not (cut / "adapter").exists()


# the log


def log_of(folder: Path) -> bytes:
    return (folder / "training.jsonl").read_bytes()


def test_the_logged_means_of_a_resumed_run_are_those_of_an_uninterrupted_one(
    tiny_base: Path, whole: Path, cut: Path
) -> None:
    """The checkpoint is of step 4, and the next line of the log is the mean of steps 1 to 5."""
    go(tiny_base, cut)
    assert [json.loads(line)["step"] for line in log_of(whole).splitlines()] == [5, 6]
    assert log_of(cut) == log_of(whole)


@pytest.mark.parametrize(
    "damaged",
    [b"\xff\xfe\n", b'{"loss": 1}\n', b"[" * 5000 + b"\n", b"[]\n\n", b'{"step": 5, "lo'],
    ids=["no UTF-8", "no step", "brackets", "a list", "torn"],
)
def test_a_damaged_log_stops_no_resume_and_is_appended_to(
    tiny_base: Path, whole: Path, cut: Path, damaged: bytes
) -> None:
    (cut / "training.jsonl").write_bytes(damaged)
    says: list[str] = []
    go(tiny_base, cut, says=says)
    assert says == []
    torn = b"" if damaged.endswith(b"\n") else b"\n"
    assert log_of(cut) == damaged + torn + log_of(whole)
    assert adapter_of(cut) == adapter_of(whole)


def test_a_log_that_cannot_be_written_stops_nothing_and_is_told_once(
    tiny_base: Path, whole: Path, cut: Path
) -> None:
    (cut / "training.jsonl").unlink()
    (cut / "training.jsonl").mkdir()
    says: list[str] = []
    go(tiny_base, cut, says=says)
    (told,) = says
    assert "training.jsonl cannot be written (Is a directory); training goes on" in told
    assert adapter_of(cut) == adapter_of(whole)


def test_a_line_that_is_there_is_not_written_again_and_one_that_differs_is(tmp_path: Path) -> None:
    path = tmp_path / "training.jsonl"
    TrainingLog(path).add({"step": 1, "loss": 2.0})
    resumed = TrainingLog(path)
    resumed.add({"step": 1, "loss": 2.0})
    resumed.add({"step": 2, "loss": 1.0})
    TrainingLog(path).add({"step": 2, "loss": 1.5})  # on another machine: the later one counts
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 2.0), (2, 1.0), (2, 1.5)]


def test_a_manifest_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        resume._write(tmp_path, resume._Manifest(step=1, files=None))
    assert list(tmp_path.iterdir()) == []
