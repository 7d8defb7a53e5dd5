"""What a user can do wrong: the right exit code, one paragraph, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import finetune.errors
import privacy.errors
from eval.errors import EvaluationError
from recipes import config, exits, starter
from recipes.errors import GateRefused, Problems, ReleaseDiffers
from recipes.locks import locked
from tests import tiny
from tests.cli import (
    Done,
    assay,
    assay_here,
    flip_a_byte,
    rows_of,
    state_of,
    write_recipe,
    write_rows,
)

Prepare = Callable[[Path, Path], object]


def check_refusal(done: Done, code: int, *words: str) -> None:
    """The exit code, one paragraph at the end of standard error, and no traceback."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert "\n\n" not in done.said.strip()
    assert len(done.said.splitlines()) <= 23  # a heading, twenty problems, their count, a way out
    for word in words:
        assert word in done.said


def a_typo_in_a_key(folder: Path, base: Path) -> None:
    write_recipe(folder, "qa", base, train={"epoch": 3}, adapter={"rnak": 2})


def a_missing_column(folder: Path, base: Path) -> None:
    rows = [{"context": r["context"], "frage": r["question"], "answers": []} for r in rows_of("qa")]
    write_rows(folder / "rows.jsonl", rows)
    write_recipe(folder, "qa", base)


def a_label_that_only_the_test_file_has(folder: Path, base: Path) -> None:
    write_rows(folder / "test.jsonl", [{"text": "new", "label": "unheard"}])
    write_recipe(folder, "classification", base, data={"test": "test.jsonl"})


def an_empty_file(folder: Path, base: Path) -> None:
    (folder / "rows.jsonl").touch()
    write_recipe(folder, "qa", base)


def a_row_that_is_no_json(folder: Path, base: Path) -> None:
    path = write_rows(folder / "rows.jsonl", rows_of("qa"))
    path.write_text(path.read_text() + "{'single': 'quotes'}\n")
    write_recipe(folder, "qa", base)


def a_file_that_is_not_there(folder: Path, base: Path) -> None:
    write_recipe(folder, "qa", base, data={"train": "missing.jsonl"})


def no_recipe_file(folder: Path, base: Path) -> None:
    del folder, base


def an_unknown_task(folder: Path, base: Path) -> None:
    write_recipe(folder, "qa", base, eval={"tasks": ["poetry"]})


def no_such_base(folder: Path, base: Path) -> None:
    write_recipe(folder, "qa", base / "elsewhere")


def a_private_run_that_stops_early(folder: Path, base: Path) -> None:
    settings = {"privacy": {"epsilon": 8}, "train": {"early_stopping": 1}}
    write_recipe(folder, "qa", base, **settings)


def a_tracker_that_is_not_there(folder: Path, base: Path) -> None:
    write_rows(folder / "rows.jsonl", rows_of("qa"))
    write_recipe(folder, "qa", base, train={"report_to": ["mlflov"]})


def a_seed_beyond_32_bits(folder: Path, base: Path) -> None:
    write_recipe(folder, "qa", base, train={"seed": 2**32})


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (a_typo_in_a_key, ("2 errors", "recipe.yaml:", "did you mean epochs?", "mean rank?")),
        (a_missing_column, ("missing-column (1)", "rows.jsonl: no column 'question'", "answers")),
        (a_label_that_only_the_test_file_has, ("test.jsonl:1", '"unheard"', "no training row")),
        (an_empty_file, ("empty-file (1)", "rows.jsonl")),
        (a_row_that_is_no_json, ("unusable-row (1)", "rows.jsonl:33: not valid JSON at column 2")),
        (a_file_that_is_not_there, ("there is no file missing.jsonl",)),
        (no_recipe_file, ("there is no recipe file recipe.yaml", "assay init")),
        (an_unknown_task, ("poetry is no task of the qa recipe", "question_answering")),
        (no_such_base, ("base.checkpoint: there is no folder or file",)),
        (a_tracker_that_is_not_there, ("train.report_to: mlflov is not installed", "at hand: ")),
        (a_seed_beyond_32_bits, ("train.seed", "less than 4294967296")),
        (a_private_run_that_stops_early, ("train.early_stopping", "without noise", "null")),
    ],
)
def test_a_run_that_cannot_begin_says_why_and_leaves_no_folder(
    tmp_path: Path, tiny_base: Path, prepare: Prepare, words: tuple[str, ...]
) -> None:
    prepare(tmp_path, tiny_base)
    done = assay_here("run", "recipe.yaml", folder=tmp_path)
    check_refusal(done, exits.INPUT, *words)
    assert not (tmp_path / "runs" / "a-run").exists()


@pytest.mark.parametrize("verb", ["run", "train"])
def test_an_answer_that_is_too_long_is_refused_and_leaves_no_folder(
    tmp_path: Path, tiny_base: Path, verb: str
) -> None:
    rows = rows_of("qa")
    rows[3]["answers"] = ["many words " * 60 + "here"]
    rows[3]["context"] += rows[3]["answers"][0]
    write_rows(tmp_path / "rows.jsonl", rows)
    write_recipe(tmp_path, "qa", tiny_base, data={"test_fraction": 0.1})
    done = assay_here(verb, "recipe.yaml", folder=tmp_path)
    check_refusal(
        *(done, exits.INPUT, "row-too-long (1)", "rows.jsonl:4", "cut at 512", "train.max_length")
    )
    assert "many words" not in done.err
    assert not (tmp_path / "runs" / "a-run").exists()


def test_a_run_folder_of_another_recipe_is_refused_and_left_as_it_is(
    tmp_path: Path, tiny_base: Path
) -> None:
    recipe = write_recipe(tmp_path, "qa", tiny_base)
    run = tmp_path / "runs" / "a-run"
    run.mkdir(parents=True)
    (run / "resolved.yaml").write_text("name: a-run\nrecipe: chat\n")
    before = state_of(run)
    done = assay_here("run", recipe, folder=tmp_path)
    check_refusal(done, exits.INPUT, "a run of the same name with other settings", "--fresh")
    assert state_of(run) == before


@pytest.mark.parametrize("verb", ["gate", "merge", "eval", "compare", "audit"])
def test_what_is_no_run_folder_is_refused_by_every_verb_that_wants_one(
    tmp_path: Path, verb: str
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("notes")
    before = state_of(tmp_path)
    done = assay_here(verb, "other", folder=tmp_path)
    # these two also take other folders
    said = {
        "compare": "other is none of the things that can be compared",
        "audit": "other is none of the folders that can be audited",
    }.get(verb, "is not a run folder")
    check_refusal(done, exits.INPUT, said)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ship", "other", "-o", "release", "--unsigned"), "other has no merged model"),
        (("verify", "other"), "other is not a release folder"),
        (("init", "poetry"), "choose one of chat, classification, qa"),
        (("init", "qa", "-o", "kept.yaml"), "kept.yaml exists already"),
        (("plan", "kept.yaml"), "wanted a mapping"),
        (("schema", "--all"), ""),
        (("translate",), ""),
        (("run",), ""),
        (("eval",), "nothing is named to evaluate"),
        (("check", "kept.yaml", "--show", "-1"), ""),
    ],
)
def test_other_verbs_refuse_with_the_same_code(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "kept.yaml").write_text("- not a recipe\n")
    done = assay_here(*arguments, folder=tmp_path)
    assert done.code == exits.INPUT
    assert words in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["kept.yaml"]


@pytest.mark.parametrize("record", ["", '{"schema": 1, "sou', "[]", "{}"])
def test_a_torn_record_is_refused_in_words(tmp_path: Path, tiny_base: Path, record: str) -> None:
    recipe = write_recipe(tmp_path, "qa", tiny_base)
    run = tmp_path / "runs" / "a-run"
    run.mkdir(parents=True)
    (run / "resolved.yaml").write_text(config.dump(config.load(recipe)))
    (run / "record.json").write_text(record)
    before = state_of(run)
    for verb in ("gate", "merge", "eval", "audit"):
        check_refusal(assay_here(verb, run, folder=tmp_path), exits.INPUT, "record.json")
    assert state_of(run) == before


def test_a_private_run_without_its_ledger_is_not_believed(tmp_path: Path, tiny_base: Path) -> None:
    """A ledger that was there is part of the run: without it nobody knows what was spent."""
    from recipes.run import Run, spent

    path = write_recipe(tmp_path, "qa", tiny_base, privacy={"epsilon": 8})
    run = Run(config.load(path), tmp_path / "run", tmp_path)
    with pytest.raises(Exception, match=r"ledger\.jsonl") as caught:
        spent(run)
    assert exits.code_of(caught.value) == exits.INTEGRITY


def test_a_command_in_a_process_of_its_own_ends_alike(tmp_path: Path, tiny_base: Path) -> None:
    a_typo_in_a_key(tmp_path, tiny_base)
    done = assay("check", "recipe.yaml", folder=tmp_path)
    check_refusal(done, exits.INPUT, "did you mean epochs?")
    assert done.err == done.said


@pytest.mark.parametrize("arguments", [(), ("--fresh",)])
def test_a_run_that_another_process_is_at_work_on_is_left_alone(
    tmp_path: Path, tiny_base: Path, arguments: tuple[str, ...]
) -> None:
    recipe = write_recipe(tmp_path, "qa", tiny_base)
    run = tmp_path / "runs" / "a-run"
    with locked(run):
        (run / "resolved.yaml").write_text(config.dump(config.load(recipe)))
        before = state_of(run)
        done = assay_here("run", recipe, *arguments, folder=tmp_path)
        check_refusal(done, exits.INPUT, "another process is at work in runs/a-run")
        assert state_of(run) == before


def test_an_interruption_of_what_has_no_checkpoint_does_not_speak_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(starter, "write", interrupt)
    done = assay_here("init", "qa", folder=tmp_path)
    check_refusal(done, 130, "interrupted (SIGINT); nothing is half-written; give the same command")
    assert "checkpoint" not in done.err


def test_an_end_of_file_within_a_verb_is_our_bug_and_not_an_abort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise EOFError("within a library")

    monkeypatch.setattr(starter, "write", end)
    done = assay_here("init", "qa", folder=tmp_path)
    assert done.code == 1
    assert "EOFError: within a library" in done.err
    assert "Aborted" not in done.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(28, "No space left on device", "qa.yaml"),
            ("qa.yaml cannot be written: no spac",),
        ),
        (Exception("No space left on device (os error 28)"), ("no space is left on the disk",)),
        (OSError(122, "Disk quota exceeded"), ("the disk quota is used up",)),
        (OSError(27, "File too large"), ("ulimit -f",)),
        (MemoryError(), ("there is no memory on this machine (",)),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 b"
            ),
            ("there is no memory on this machine",),
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."),
            ("on the GPU for 21.0 MB",),
        ),
        (
            RuntimeError("unable to mmap 6441680 bytes from file <m>: Cannot allocate it (12)"),
            ("there is no memory on this machine for 6.4 MB more",),
        ),
    ],
)
def test_disk_and_memory_that_ran_out_are_told_in_one_line_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: tuple[str, ...]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(starter, "write", fail)
    done = assay_here("init", "qa", folder=tmp_path)
    check_refusal(done, exits.INPUT, *words, "Then: nothing is half-written; give the same command")
    assert len(done.said.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Problems("two things:", []), 2),
        (finetune.errors.InputError("x"), 2),
        (EvaluationError("x"), 2),
        (privacy.errors.PrivacyError("x"), 2),
        (GateRefused("x"), 3),
        (privacy.errors.BudgetSpent("x"), 4),
        (privacy.errors.LedgerError("x"), 5),
        (finetune.errors.IntegrityError("x"), 5),
        (ReleaseDiffers("x"), 5),
        (OSError(28, "No space left on device"), 2),
        (ValueError("ours"), None),
        (KeyError("ours"), None),
    ],
)
def test_the_exit_codes_are_an_interface(error: Exception, code: int | None) -> None:
    assert exits.code_of(error) == code


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, a recipe and a finished run of it. Read only; copy it."""
    folder = tmp_path_factory.mktemp("finished")
    base = tiny.make_base(folder / "base")
    write_recipe(folder, "qa", base)
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert done.code == 0, done.err
    return folder


def copied(finished: Path, to: Path) -> tuple[Path, Path]:
    """Copy a folder with its run, and let its recipe name the copied base."""
    folder = to / "copy"
    shutil.copytree(finished, folder, copy_function=shutil.copy2)
    run = folder / "runs" / "a-run"
    for path in (folder / "recipe.yaml", run / "record.json"):
        path.write_text(path.read_text().replace(str(finished), str(folder)))
    (run / "resolved.yaml").write_text(config.dump(config.load(folder / "recipe.yaml")))
    return folder, run


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.slow
def test_a_run_whose_base_was_changed_by_one_bit_is_refused_with_both_identities(
    finished: Path, tmp_path: Path
) -> None:
    folder, run = copied(finished, tmp_path)
    trained_on = json.loads((run / "record.json").read_text())["base"]["identity"]
    flip_a_byte(folder / "base" / "model.safetensors")
    before = state_of(run)
    done = assay_here("run", "recipe.yaml", folder=folder)
    check_refusal(done, exits.INTEGRITY, trained_on)
    assert done.said.count("sha256:") == 2
    assert state_of(run) == before


@pytest.mark.slow
def test_a_finished_run_with_a_torn_record_is_refused_and_left_as_it_is(
    finished: Path, tmp_path: Path
) -> None:
    folder, run = copied(finished, tmp_path)
    whole = (run / "record.json").read_text()
    (run / "record.json").write_text(whole[: len(whole) // 2])
    before = state_of(run)
    for arguments in (
        ("run", "recipe.yaml"),
        ("gate", run),
        ("ship", run, "-o", "release", "--unsigned"),
    ):
        done = assay_here(*arguments, folder=folder)
        check_refusal(done, exits.INPUT, "record.json")
    assert state_of(run) == before
    assert not (folder / "release").exists()


@pytest.mark.slow
def test_a_changed_adapter_is_not_taken_for_the_one_that_was_evaluated(
    finished: Path, tmp_path: Path
) -> None:
    folder, run = copied(finished, tmp_path)
    flip_a_byte(run / "adapter" / "adapter_model.safetensors", at=-2)
    done = assay_here("ship", run, "-o", "release", "--unsigned", folder=folder)
    assert done.code == 0  # the merged model is still the one that passed
    done = assay_here("run", "recipe.yaml", "--json", folder=folder)
    assert done.code == 0, done.err
    for word in ("evaluating the adapter", "merging", "evaluating the merged"):
        assert word in done.err
    decision = json.loads((run / "decision.json").read_text())
    before = json.loads((finished / "runs" / "a-run" / "decision.json").read_text())
    assert decision["target"]["adapter"] != before["target"]["adapter"]


@pytest.mark.slow
def test_a_decision_that_was_edited_into_a_pass_ships_nothing(
    finished: Path, tmp_path: Path
) -> None:
    folder, run = copied(finished, tmp_path)
    edit_json(run / "decision.json", lambda d: d["target"].update(merged="sha256:" + "0" * 64))
    done = assay_here("ship", run, "-o", "release", "--unsigned", folder=folder)
    check_refusal(done, exits.INTEGRITY, "the decision is about")
    edit_json(run / "decision.json", lambda d: d.update(passed=False))
    check_refusal(assay_here("ship", run, "-o", "release", "--unsigned", folder=folder), exits.GATE)
    assert not (folder / "release").exists()
    assert not list(folder.glob(".release*"))
