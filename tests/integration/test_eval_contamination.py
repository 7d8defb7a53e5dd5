"""`assay eval RUN --task` says what of the set is in the run's training rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune.identity import identity
from recipes import config, domains
from tests.cli import assay_here
from tests.integration.test_eval_targets import make_adapter, write_pairs
from tests.recipes import whole
from tests.recipes.rows import write_jsonl


def run_of(folder: Path, base: Path, questions: list[str]) -> Path:
    """Make a run folder whose adapter is said to be trained on chats of these user turns."""

    def chat(question: str) -> dict[str, Any]:
        turns = (("user", question), ("assistant", "yes"))
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    write_jsonl(folder / "rows.jsonl", map(chat, questions))
    write_jsonl(folder / "test.jsonl", [chat("another one")])
    gate = {
        "accuracy": {"metric": "perplexity", "at_most": 40},
        "bias": {"metric": "stereotype_preference", "at_most": 0.5},
        "hallucination": {"metric": "mc2", "at_least": 0.2},
    }
    recipe = {
        "name": "house",
        "recipe": "chat",
        "base": {"checkpoint": str(base)},
        "data": {"train": "rows.jsonl", "test": "test.jsonl"},
        "gate": gate,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    run = folder / "run"
    run.mkdir()
    (run / "resolved.yaml").write_text(config.dump(config.load(folder / "recipe.yaml")))
    manifest = domains.read(config.load(folder / "recipe.yaml"), folder).parts.manifest()
    (run / "data.json").write_text(json.dumps(manifest))
    record = whole.RECORD | {
        "source": str(folder),
        "name": "house",
        "recipe": "chat",
        "base": {"identity": identity(base), "checkpoint": str(base)},
        "data": {name: manifest[name] for name in ("files", "fingerprint")},
        "rows": manifest["rows"],
        "training": {"num_steps": 1, "num_seconds": 1.0, "num_parameters": 1},
    }
    (run / "record.json").write_text(json.dumps(record))
    make_adapter(base, run / "adapter", seed=1)
    return run


def test_an_evaluation_of_a_run_says_what_of_the_set_is_in_its_training_rows(
    tiny_base: Path, tmp_path: Path
) -> None:
    pairs = write_pairs(tmp_path / "pairs.csv", 20, length=9)
    sentences = [line.split(",")[1] for line in pairs.read_text().splitlines()[1:]]
    turns = [sentences[0], f"is this so: {sentences[1].upper()}!", "how are you", "and now"]
    run = run_of(tmp_path, tiny_base, turns)
    ask = (
        "eval", run, "--task", "crows_pairs=pairs.csv", "--dtype", "float32", "--threads", 1,
        "-o", "scores",
    )  # fmt: skip
    done = assay_here(*ask, folder=tmp_path)
    assert done.code == 0, done.err
    assert (
        "house: 2 of 20 items of crows_pairs are in the training data (1 exact, 1 contained); "
        "stereotype_preference" in done.err
    )
    found = json.loads((tmp_path / "scores" / "house" / "contamination.json").read_text())
    values = found["tasks"]["crows_pairs"]
    assert (found["searched"], values["num_items"], values["num_found"]) == (True, 20, 2)
    assert values["items"]["exact"] == {"0": "rows.jsonl:1"}
    assert values["items"]["contained"] == {"1": "rows.jsonl:2"}
    for scores in (values["scores"], values["base_scores"]):
        assert scores["pct_stereotype"]["seen"]["n"] == 2
        assert scores["pct_stereotype"]["unseen"]["n"] == 18
    assert values["scores"] != values["base_scores"]
    assert not (tmp_path / "scores" / "base" / "contamination.json").exists()
    assert sentences[0] not in json.dumps(found) + done.err

    (tmp_path / "rows.jsonl").unlink()
    done = assay_here(*ask, folder=tmp_path)
    assert done.code == 0, done.err
    assert "the data files are not at hand" in done.err
    found = json.loads((tmp_path / "scores" / "house" / "contamination.json").read_text())
    assert found["searched"] is False
