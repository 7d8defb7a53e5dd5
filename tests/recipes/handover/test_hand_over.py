"""`assay ship` with all that can be asked of it, on a run that passed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recipes import handover
from recipes.errors import InputError
from tests.cli import assay_here, state_of, write_recipe
from tests.recipes.test_dsse import make_key


@pytest.fixture
def folder(mergeable: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mergeable, tmp_path / "model"))


def test_a_folder_is_told_where_it_can_be_served_and_no_more(folder: Path) -> None:
    before = state_of(folder)
    done = handover.hand_over(folder)
    after = state_of(folder)
    assert set(done) == {"serving"}
    assert after.keys() - before.keys() == {"SERVING.md", "evidence/serving.json"}
    assert {name: after[name] for name in before} == before
    assert json.loads((folder / "evidence" / "serving.json").read_text()) == done["serving"]
    assert str(folder.parent) not in (folder / "SERVING.md").read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gguf": ["Q4_K_M"]}, "--gguf Q4_K_M: known are F16 and Q8_0; a lower precision"),
        ({"gguf": ["F16", "f16"]}, "--gguf f16"),
        ({"mlflow": "mlruns"}, "--mlflow mlruns"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_done(
    options: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        handover.read_options(**({"smoke": False, "gguf": [], "mlflow": None} | options))  # type: ignore[arg-type]


def test_kinds_are_made_once_each_in_one_order() -> None:
    assert handover.read_options(smoke=False, gguf=["Q8_0", "F16", "Q8_0"], mlflow=None).gguf == (
        "F16",
        "Q8_0",
    )


def test_a_run_without_extras_says_nothing_of_them() -> None:
    assert handover.lines({"serving": {}, "release": "out"}) == []


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, mergeable: Path) -> Path:
    """A folder with a run that passed, of a base whose tokenizer merges."""
    folder = tmp_path_factory.mktemp("story")
    write_recipe(folder, "qa", mergeable, name="first")
    done = assay_here("run", "recipe.yaml", folder=folder)
    assert done.code == 0, done.err
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
def test_ship_hands_over_what_was_asked_and_lists_it(story: Path) -> None:
    pytest.importorskip("openai", reason="transformers serve needs it")
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    private, public = make_key(story)
    asked = ("--smoke", "--gguf", "Q8_0", "--mlflow", "sqlite:///ml/mlflow.db", "--json")
    done = assay_here("ship", "runs/first", "-o", "release", "--key", private, *asked, folder=story)
    assert done.code == 0, done.err
    told = done.json()
    release = story / "release"
    files = set(state_of(release))
    assert files >= {
        *("SERVING.md", "evidence/serving.json", "evidence/smoke.json"),
        *("gguf/model-Q8_0.gguf", "gguf/gguf.json", "gguf/Modelfile"),
    }
    assert json.loads((release / "gguf" / "gguf.json").read_text()) == told["gguf"]
    merged = json.loads((release / "merge.json").read_text())
    assert told["gguf"]["model"] == merged["identity"]
    assert told["smoke"]["num_requests"] == 3
    assert told["mlflow"]["is_champion"]
    assert not [p for p in told["mlflow"]["sent"] if "report.html" in p or "samples" in p]
    verdicts = {(f["engine"], f["verdict"]) for f in told["serving"]["findings"]}
    assert {("llama.cpp", "can"), ("Ollama", "can")} <= verdicts
    verified = assay_here("verify", "release", "--key", public, folder=story)
    assert verified.code == 0, verified.err
    for path in release.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
        if path.is_file():
            assert str(story).encode() not in path.read_bytes()


@pytest.mark.slow
def test_what_cannot_be_handed_over_is_not_shipped(mergeable: Path, tmp_path: Path) -> None:
    """The base normalises from the start: a tokenizer changed later is no longer what passed."""
    base = Path(shutil.copytree(mergeable, tmp_path / "base"))
    path = base / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "NFC"}}))
    write_recipe(tmp_path, "qa", base, name="first")
    assert assay_here("run", "recipe.yaml", folder=tmp_path).code == 0
    private, _ = make_key(tmp_path)
    before = sorted(tmp_path.iterdir())
    asked = ("--key", private, "--gguf", "F16")
    done = assay_here("ship", "runs/first", "-o", "other", *asked, folder=tmp_path)
    assert done.code == 2
    assert "normalises text" in done.said
    assert sorted(tmp_path.iterdir()) == before
