"""An encoder's classifier as ONNX graphs: exported, measured, refused or shipped, checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from finetune import adapter as adapters
from finetune import checkpoint
from finetune.config import AdapterConfig, CheckpointConfig
from finetune.errors import IntegrityError
from finetune.proof import merge_proved
from recipes import handover
from recipes.errors import InputError
from recipes.handover import onnx_packages, onnx_parity, onnx_record, servability, smoke
from tests import encoders, tiny
from tests.cli import assay_here, flip_a_byte, rows_of, state_of, write_recipe, write_rows
from tests.recipes.test_dsse import make_key

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
from recipes.handover import onnx_export  # noqa: E402 (needs the extra)

TEXTS = [
    *("my card again 7", "why fee", "loan rate plan bill 12?", "hi", "the [SEP] of my card [PAD]"),
    "why does it cost euros again and again " * 6,
]


def merged_of(
    folder: Path,
    kind: str = "bert",
    *,
    pooling: Any = "model",
    is_multi_label: bool = False,
    **sizes: Any,
) -> Path:
    """Write the merged folder of an adapter on a small random encoder."""
    source = encoders.make_encoder(folder / "base", kind, **sizes)
    torch.manual_seed(0)
    base = checkpoint.load(
        checkpoint.resolve(CheckpointConfig(checkpoint=str(source))),
        quantization="none",
        head="sequence-classification",
        labels=tiny.LABELS,
        is_multi_label=is_multi_label,
        pooling=pooling,
        dtype=torch.float32,
    )
    model = tiny.as_if_trained(adapters.inject(base, AdapterConfig(rank=4)))
    adapters.save(model, base, folder / "adapter")
    merge_proved(base.folder, folder / "adapter", folder / "merged", TEXTS[:2])
    return folder / "merged"


def ask(path: Path, rows: list[list[int]], pad_id: int) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return onnx_parity._ask(session, rows, pad_id)


def check_graphs(folder: Path, record: onnx_record.OnnxRecord) -> None:
    """Names, axes, labels, paths: what holds for every export."""
    import onnx

    config = json.loads((folder / "config.json").read_text())
    for kind, name in onnx_record.FILES.items():
        graph = onnx.load(folder / "onnx" / name)
        about = {one.key: one.value for one in graph.metadata_props}
        assert json.loads(about["labels"]) == [config["id2label"][str(i)] for i in range(3)]
        assert about["problem_type"] == config["problem_type"]
        assert about["max_length"] == str(record.max_length)
        assert [one.name for one in graph.graph.input] == ["input_ids", "attention_mask"]
        assert [one.name for one in graph.graph.output] == ["logits", "probabilities"]
        for one in graph.graph.input:
            assert all(axis.dim_param for axis in one.type.tensor_type.shape.dim)
        content = (folder / "onnx" / name).read_bytes()
        for place in (str(Path(torch.__file__).parents[1]), str(folder.parent), str(Path.cwd())):
            assert place.encode() not in content
        measured = record.of(kind)
        assert measured.size_bytes == len(content)
    ops = {node.op_type for node in graph.graph.node}
    assert "MatMulInteger" in ops  # of the last, which is int8
    assert record.of("int8").size_bytes < record.of("float32").size_bytes
    assert record.of("float32").max_difference < 1e-5
    assert record.of("float32").same_labels == 1.0
    assert 0 < record.of("int8").max_difference < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("is_multi_label", [False, True])
@pytest.mark.parametrize("pooling", ["model", "mean", "cls"])
@pytest.mark.parametrize("kind", encoders.KINDS)
def test_every_kind_is_exported_and_answers_alike(
    tmp_path: Path, kind: str, pooling: str, is_multi_label: bool
) -> None:
    folder = merged_of(tmp_path, kind, pooling=pooling, is_multi_label=is_multi_label)
    record = onnx_export.convert(folder, texts=TEXTS, max_length=40)
    check_graphs(folder, record)
    assert record.is_multi_label == is_multi_label
    assert (record.num_texts, record.num_other_tokens, record.max_length) == (len(TEXTS), 0, 40)


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged classifier that pools by the mean, without graphs. Read only."""
    return merged_of(tmp_path_factory.mktemp("mean"), pooling="mean", num_hidden_layers=1)


@pytest.fixture(scope="module")
def an_export(a_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with graphs. Read only."""
    folder = shutil.copytree(a_folder, tmp_path_factory.mktemp("graphs") / "merged")
    onnx_export.convert(folder, texts=TEXTS, max_length=40)
    return folder


@pytest.fixture
def folder(a_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(a_folder, tmp_path / "merged"))


def test_graphs_of_a_pooled_classifier_answer_alike(an_export: Path) -> None:
    record = onnx_record.read(an_export)
    assert record is not None
    check_graphs(an_export, record)
    assert record.texts == "test rows"
    assert record.model == checkpoint.identity(an_export)


def test_padding_and_other_shapes_do_not_matter(an_export: Path) -> None:
    path = an_export / "onnx" / "model.onnx"
    rows = [[1, 9], [1, 8, 2], [1, *([7] * 50), 2]]
    together = ask(path, rows, 0)
    alone = np.concatenate([ask(path, [row], 0) for row in rows])
    assert np.abs(together - alone).max() < 1e-5
    assert np.allclose(together.sum(1), 1, atol=1e-5)


def test_the_script_of_the_page_runs_without_torch(an_export: Path) -> None:
    assert "'" not in onnx_record.SCRIPT  # it stands between single quotes in a shell
    page = next(f for f in servability.check(an_export) if f.engine == "onnxruntime")
    assert page.verdict == "can"
    assert onnx_record.SCRIPT in page.command
    only = "\nassert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", onnx_record.SCRIPT + only, *TEXTS[:2]],
        cwd=an_export,
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(one) for one in answers] == [set(tiny.LABELS)] * 2
    assert all(abs(sum(one.values()) - 1) < 1e-5 for one in answers)


def test_a_smoke_test_holds_the_script_against_the_engine(
    an_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = smoke.smoke_onnx(an_export)
    assert done.max_difference <= smoke.SAME_PROBABILITY
    assert done.engine.startswith("onnxruntime")
    wrong = onnx_record.SCRIPT.replace("found[0].tolist()", "found[0][::-1].tolist()")
    monkeypatch.setattr(onnx_record, "SCRIPT", wrong)
    with pytest.raises(IntegrityError, match="differ by up to"):
        smoke.smoke_onnx(an_export)


def test_a_float32_graph_that_differs_leaves_nothing_behind(
    folder: Path, an_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number of the head's bias is another one in the graph."""
    import onnx

    def write_another(_: Any, path: Path) -> None:
        graph = onnx.load(an_export / "onnx" / "model.onnx")
        (bias,) = (t for t in graph.graph.initializer if "pooled_classifier.bias" in t.name)
        values = onnx.numpy_helper.to_array(bias) + np.float32([0.01, 0, 0])
        bias.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), bias.name))
        onnx.save_model(graph, str(path))

    before = state_of(folder)
    monkeypatch.setattr(onnx_export, "_write_graph", write_another)
    with pytest.raises(IntegrityError, match=r"model.onnx differs .* limit 0.0001"):
        onnx_export.convert(folder, texts=TEXTS)
    assert state_of(folder) == before
    assert not [path for path in folder.parent.rglob("*") if "onnx" in path.name]


def test_a_tokenizer_file_that_reads_otherwise_is_refused(
    an_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = onnx_export.load_classifier(an_export, 40)
    monkeypatch.setattr(onnx_parity, "_tokenize", lambda *_: [[1, 2]] * len(TEXTS))
    with pytest.raises(IntegrityError, match=r"other tokens .* for 6 of 6 texts"):
        onnx_parity.measure(an_export, an_export / "onnx", reference, TEXTS)


def test_an_int8_graph_that_changes_labels_is_named(an_export: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(an_export, tmp_path / "merged")
    path = folder / "onnx" / "parity.json"
    values = json.loads(path.read_text())
    record = onnx_record.OnnxRecord.model_validate(values)
    assert record.warning() == ("" if record.of("int8").same_labels >= 0.99 else record.warning())
    for same, is_named in ((0.991, False), (0.97, True)):
        values["files"][1]["same_labels"] = same
        path.write_text(json.dumps(values))
        page = next(f for f in servability.check(folder) if f.engine == "onnxruntime")
        told = "\n".join(handover.lines({"onnx": values}))
        for text in (page.reason, told):
            assert ("gives 3.0% of the texts another label (limit 1%)" in text) == is_named


def test_a_share_of_many_texts_is_measured(an_export: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(onnx_parity, "MAX_TEXTS", 4)
    reference = onnx_export.load_classifier(an_export, 40)
    found = onnx_parity.measure(an_export, an_export / "onnx", reference, TEXTS)
    assert found.num_texts == 4


def test_without_the_extra_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_packages, "PACKAGES", ("onnx", "a_package_that_nobody_has"))
    with pytest.raises(InputError, match=r"--onnx needs a_package_that_nobody_has: pip install"):
        handover.read_options(smoke=False, gguf=(), mlflow=None, onnx=True)


@pytest.mark.parametrize("is_classifier", [False, True])
def test_a_decoder_is_refused_before_anything_is_written(
    tiny_base: Path, tmp_path: Path, is_classifier: bool
) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "merged"))
    if is_classifier:
        path = folder / "config.json"
        names = {"architectures": ["LlamaForSequenceClassification"]}
        path.write_text(json.dumps(json.loads(path.read_text()) | names))
    extras = handover.read_options(smoke=False, gguf=(), mlflow=None, onnx=True)
    with pytest.raises(InputError, match="classifiers of encoders alone"):
        extras.refuse_what_cannot_be(folder)


def test_a_model_too_large_for_one_file_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(4 * t.numel() for t in load_file(folder / "model.safetensors").values())
    assert size <= onnx_export._float32_bytes(folder) <= 1.01 * size
    monkeypatch.setattr(onnx_export, "_MAX_BYTES", size)
    with pytest.raises(InputError, match="of weights in float32"):
        onnx_export.check(folder)


def test_graphs_are_not_written_over(an_export: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        onnx_export.convert(an_export)


@pytest.mark.slow
def test_ship_onnx_from_a_run_to_a_checked_release(tmp_path: Path) -> None:
    base = encoders.make_encoder(tmp_path / "base", pooling="mean")
    write_rows(tmp_path / "rows.jsonl", rows_of("classification"))
    write_recipe(tmp_path, "classification", base, name="first")
    done = assay_here("run", "recipe.yaml", folder=tmp_path)
    assert done.code == 0, done.err
    private, public = make_key(tmp_path)
    asked = ("--key", private, "--onnx", "--smoke", "--json")
    done = assay_here("ship", "runs/first", "-o", "release", *asked, folder=tmp_path)
    assert done.code == 0, done.err
    told, release = done.json(), tmp_path / "release"
    assert {"onnx/model.onnx", "onnx/model_int8.onnx", "onnx/parity.json"} <= set(state_of(release))
    assert json.loads((release / "onnx" / "parity.json").read_text()) == told["onnx"]
    assert told["onnx"]["texts"] == "test rows"
    assert told["smoke"]["onnx"]["num_requests"] == 3
    for page in ("MODEL_CARD.md", "SERVING.md", "SHA256SUMS"):
        assert "model_int8.onnx" in (release / page).read_text()
    verified = assay_here("verify", "release", "--key", public, folder=tmp_path)
    assert verified.code == 0, verified.err
    flip_a_byte(release / "onnx" / "model_int8.onnx")
    verified = assay_here("verify", "release", "--key", public, folder=tmp_path)
    assert verified.code == 5
    assert "onnx/model_int8.onnx" in verified.said
