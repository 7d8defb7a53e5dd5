"""What `assay merge` makes of a run: the merged model, a new candidate, a serving base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from finetune.errors import IntegrityError
from recipes import exits
from tests.cli import assay_here, flip_a_byte, state_of, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A folder with a run on a 4-bit base that passed."""
    folder = tmp_path_factory.mktemp("merged")
    write_recipe(folder, "qa", tiny_base)
    done = assay_here("run", "recipe.yaml", "--json", folder=folder)
    assert done.code == 0, done.err
    return folder


def copied(finished: Path, to: Path) -> tuple[Path, Path]:
    folder = Path(shutil.copytree(finished, to / "copy", copy_function=shutil.copy2))
    return folder, folder / "runs" / "a-run"


def record_of(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "merged" / "merge.json").read_text())
    return found


def test_the_report_and_the_record_show_the_whole_proof(finished: Path) -> None:
    run = finished / "runs" / "a-run"
    record = record_of(run)
    assert (record["into"], record["is_new_candidate"]) == ("dequantised nf4", False)
    tasks = record["tasks_against_adapter"]
    assert isinstance(tasks, dict)
    assert set(tasks) == {"question_answering"}
    assert 0 <= tasks["question_answering"]["num_answers_changed"] <= 6
    page = (run / "report.html").read_text()
    for words in ("tensors compared by hash", "adapter tensors", "loaded by a fresh process"):
        assert words in page


def test_the_original_weights_make_a_candidate_of_its_own(finished: Path, tmp_path: Path) -> None:
    folder, run = copied(finished, tmp_path)
    before = state_of(run)
    done = assay_here("merge", run, "--into", "original", "--json", folder=folder)
    assert done.code in (exits.GATE, 0), done.err  # it is gated by itself
    other = run.with_name("a-run-original")
    assert done.json()["run"] == str(other)
    assert state_of(run) == before
    record, default = record_of(other), record_of(run)
    assert (record["into"], record["is_new_candidate"]) == ("original weights", True)
    assert record["identity"] != default["identity"]
    assert record["adapter"] == default["adapter"]
    decision = json.loads((other / "decision.json").read_text())
    assert decision["target"]["merged"] == record["identity"]
    said = json.loads((other / "record.json").read_text())
    assert said["candidate"] == {"of": "a-run", "into": "original"}
    assert said["name"] == "a-run-original"
    assert "evaluated and gated by itself" in (other / "report.html").read_text()
    again = state_of(other)
    done = assay_here("merge", other, folder=folder)  # knows what it is
    assert done.code in (exits.GATE, 0), done.err
    assert {n for n, h in state_of(other).items() if again.get(n) != h} <= {
        "record.json",
        "report.html",
    }


def test_a_merge_back_into_4_bit_is_refused_before_anything_is_done(
    finished: Path, tmp_path: Path
) -> None:
    folder, run = copied(finished, tmp_path)
    before = state_of(run)
    done = assay_here("merge", run, "--into", "nf4", folder=folder)
    assert done.code == exits.INPUT
    assert "about 1 % of it survives" in done.said
    assert "--serving-base" in done.said
    done = assay_here("merge", run, "--into", "fp8", folder=folder)
    assert (done.code, "dequantised or original" in done.said) == (exits.INPUT, True)
    assert state_of(run) == before


def test_a_serving_base_is_written_and_proved(finished: Path, tmp_path: Path) -> None:
    folder, run = copied(finished, tmp_path)
    done = assay_here("merge", run, "--serving-base", "serving", "--json", folder=folder)
    assert done.code == 0, done.err
    proof = done.json()["proof"]
    assert proof["mean_kl_nats"] <= proof["limit_mean_kl_nats"]
    assert (folder / "serving" / "model.safetensors").is_file()
    done = assay_here("merge", run, "--serving-base", "serving", folder=folder)
    assert (done.code, "exists already" in done.said) == (exits.INPUT, True)
    done = assay_here("merge", run, "--serving-base", "b", "--into", "original", folder=folder)
    assert (done.code, "leave out --into" in done.said) == (exits.INPUT, True)


def test_a_merged_model_that_was_changed_is_not_taken_for_the_proved_one(
    finished: Path, tmp_path: Path
) -> None:
    folder, run = copied(finished, tmp_path)
    flip_a_byte(run / "merged" / "model.safetensors")
    done = assay_here("merge", run, folder=folder)
    assert (done.code, "was changed since its merge was proved" in done.said) == (
        exits.INTEGRITY,
        True,
    )
    shutil.rmtree(run / "merged")
    assert assay_here("merge", run, folder=folder).code == 0


def test_a_proved_model_is_replaced_by_one_that_is_proved_or_stays(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = copied(finished, tmp_path)
    before = state_of(run / "merged")

    def fails(*_: object) -> None:
        raise IntegrityError("another machine")

    with monkeypatch.context() as patch:
        patch.setattr("finetune.proof._check_reload", fails)
        done = assay_here("merge", run, "--storage", "float16", folder=folder)
    assert (done.code, "another machine" in done.said) == (exits.INTEGRITY, True)
    assert state_of(run / "merged") == before
    done = assay_here("merge", run, "--storage", "float16", folder=folder)
    assert done.code == 0, done.err
    assert json.loads((run / "merged" / "merge.json").read_text())["storage"]["dtype"] == "float16"
    assert not list(run.glob(".merged.*"))


def test_a_damaged_record_of_a_merge_is_no_proof_and_no_crash(
    finished: Path, tmp_path: Path
) -> None:
    folder, run = copied(finished, tmp_path)
    path = run / "merged" / "merge.json"
    whole = json.loads(path.read_text())
    for lacking in ("identity", "adapter"):
        path.write_text(json.dumps({k: v for k, v in whole.items() if k != lacking}))
        done = assay_here("merge", run, folder=folder)
        told = f"{lacking}: Field required" in done.said and "remove the folder" in done.said
        assert (done.code, told) == (exits.INPUT, True)
    path.write_text(json.dumps(whole | {"adapter": "sha256:1"}))
    assert assay_here("merge", run, folder=folder).code == 0, "it is merged anew"
    done = assay_here("merge", ".", "--into", "original", folder=run)
    assert done.code == 0, done.err


def test_a_hostile_adapter_is_not_evaluated(finished: Path, tmp_path: Path) -> None:
    folder, run = copied(finished, tmp_path)
    settings = run / "adapter" / "adapter_config.json"
    values = json.loads(settings.read_text()) | {"target_modules": "(a|a|a*)*" * 30}
    settings.write_text(json.dumps(values))
    done = assay_here("eval", run, folder=folder)
    assert (done.code, "adapter: adapter/, its files" in done.said) == (exits.INTEGRITY, True)
