"""Which engine can serve a folder, with which flags, and why not: from its configuration alone.

Each rule names its source and the version that was read. Nothing here was run on the engines but
what says so (transformers by `recipes.handover.smoke`, llama.cpp by `recipes.handover.parity`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune.adapter_files import template_of
from finetune.encoder_kinds import ENCODERS
from finetune.identity import DENSE_WEIGHTS
from recipes.errors import InputError
from recipes.handover import adapters, finding, gguf, onnx_record
from recipes.handover.finding import Finding

_VLLM_SERVE = "vllm serve's other flags: recalled, not looked up"
_VLLM_POOLING = "docs.vllm.ai/en/v0.18.0/models/pooling_models"
_VLLM_DEFAULTS = "github.com/vllm-project/vllm/pull/11164 (--generation-config)"
_TEI_KINDS = ("roberta", "xlm-roberta", "camembert")
_SGLANG_SERVE = (
    "mintlify.com/sgl-project/sglang/backend/server-arguments (read 2026-11); --sampling-defaults "
    "from SGLang's own tests"
)


def check(folder: Path) -> list[Finding]:
    """Return what each engine can do with a folder: of a merged model, of an adapter, or both.

    Raises:
        InputError: if it is neither.
    """
    config_path, adapter_path = folder / "config.json", folder / "adapter_config.json"
    found: list[Finding] = []
    if config_path.is_file():
        found += _of_merged(folder, json.loads(config_path.read_text(encoding="utf-8")))
    if adapter_path.is_file():
        found += adapters.of_adapter(json.loads(adapter_path.read_text(encoding="utf-8")))
    if not found:
        raise InputError(
            f"{folder} holds neither a model (config.json) nor an adapter (adapter_config.json)"
        )
    return found


def warning(folder: Path) -> str:
    """Return what must never be done to a folder's weights, by what they were merged into."""
    path = folder / "merge.json"
    into = json.loads(path.read_text(encoding="utf-8")).get("into", "") if path.is_file() else "nf4"
    return finding.NEVER_4BIT if "nf4" in into else finding.REQUANTISED


def _of_merged(folder: Path, config: dict[str, Any]) -> list[Finding]:
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture.endswith("ForSequenceClassification"):
        return [*_of_classifier(config), *_of_encoder(folder, config)]
    if (folder / DENSE_WEIGHTS).is_file():
        return [*_of_pooled_classifier(config), *_of_encoder(folder, config)]
    defaults = _sampling_defaults(folder)
    length = config.get("max_position_embeddings")
    context = f" --max-model-len {length}" if isinstance(length, int) and length <= 8192 else ""
    has_template = bool(template_of(folder))
    chat = "" if has_template else " It has no chat template, so only completions, not chats."
    told = (
        f"generation_config.json sets {', '.join(defaults)}, which the engine would apply to every "
        "request; the evaluation was greedy and without them, so the flag turns them off."
        if defaults
        else "A plain 16-bit model. Ask with temperature 0 for the evaluated answers."
    )
    flag = " --generation-config vllm" if defaults else ""
    found = [
        Finding(
            "transformers",
            "merged model",
            "can" if has_template else "needs",
            "transformers serve . --host 127.0.0.1",
            f"Needs pip install 'transformers[serving]'; for trying out, not for load.{chat}",
            finding.TRANSFORMERS,
        ),
        Finding(
            "vLLM",
            "merged model",
            "needs" if defaults else "can",
            f"vllm serve . --dtype {_dtype(config)}{context}{flag}",
            told + chat,
            f"{_VLLM_DEFAULTS}; {_VLLM_SERVE}",
        ),
        Finding(
            "SGLang",
            "merged model",
            "needs" if defaults else "can",
            f"python -m sglang.launch_server --model-path . --dtype {_dtype(config)}"
            + (" --sampling-defaults openai" if defaults else ""),
            told + chat,
            _SGLANG_SERVE,
        ),
    ]
    return found + _of_gguf(folder)


def _of_gguf(folder: Path) -> list[Finding]:
    """Say whether the model can be a GGUF file, and what serves that."""
    try:
        gguf.check(folder)
    except InputError as error:
        reason = str(error).removeprefix(f"{folder}/").removeprefix(f"{folder} ")
        return [
            Finding(engine, "GGUF file", "cannot", "", f"Not written here: {reason}", source)
            for engine, source in (("llama.cpp", finding.LLAMA_CPP), ("Ollama", finding.OLLAMA))
        ]
    files = sorted(p.name for p in (folder / "gguf").glob("*.gguf"))
    name = files[-1] if files else "model-Q8_0.gguf"
    there = "" if files else " Not in this folder: ship it with --gguf Q8_0 or F16."
    has_modelfile = (folder / "gguf" / "Modelfile").is_file()
    return [
        Finding(
            "llama.cpp",
            "GGUF file",
            "can" if files else "needs",
            f"llama-server -m gguf/{name} --jinja --host 127.0.0.1",
            f"Measured against the 16-bit folder in gguf/gguf.json.{there}"
            if files
            else f"A Llama with a tokenizer whose rule llama.cpp knows.{there}",
            finding.LLAMA_CPP,
        ),
        Finding(
            "Ollama",
            "GGUF file",
            "can" if has_modelfile else "needs",
            "cd gguf && ollama create my-model -f Modelfile && ollama run my-model",
            "The Modelfile holds template, stops and greedy sampling; Ollama's own defaults sample "
            "and penalise."
            if has_modelfile
            else f"Needs a GGUF file and a Modelfile.{there}",
            finding.OLLAMA,
        ),
    ]


def _of_classifier(config: dict[str, Any]) -> list[Finding]:
    num_labels = len(config.get("id2label") or {})
    is_multi_label = config.get("problem_type") == "multi_label_classification"
    head = f"A classification head of {num_labels} labels: no chat, no completions."
    sigmoid = (
        " Several labels may hold at once: check that the engine applies a sigmoid, not a softmax."
        if is_multi_label
        else ""
    )
    none = f"{head} The engine serves language models only."
    return [
        Finding(
            "transformers",
            "merged model",
            "needs",
            "python -c 'from transformers import pipeline; "
            'print(pipeline("text-classification", model=".")("text", top_k=None))\'',
            f"{head} transformers serve has no route for it; a pipeline has.{sigmoid}",
            finding.TRANSFORMERS,
        ),
        Finding(
            "vLLM",
            "merged model",
            "needs",
            f"vllm serve . --runner pooling --dtype {_dtype(config)}",
            f"{head} Asked at /classify.{sigmoid}",
            _VLLM_POOLING,
        ),
        Finding(
            "SGLang",
            "merged model",
            "unknown",
            "",
            f"{head} SGLang documents classifiers for some architectures only; not looked up for "
            "this one.",
            "none",
        ),
        Finding("llama.cpp", "GGUF file", "cannot", "", none, finding.LLAMA_CPP),
        Finding("Ollama", "GGUF file", "cannot", "", none, finding.OLLAMA),
    ]


def _of_pooled_classifier(config: dict[str, Any]) -> list[Finding]:
    num_labels = len(config.get("id2label") or {})
    is_multi_label = config.get("problem_type") == "multi_label_classification"
    squash = "sigmoid" if is_multi_label else "softmax"
    head = f"A head of {num_labels} labels on pooled vectors: no chat, no completions."
    none = f"{head} The engine serves language models only."
    return [
        Finding(
            "Sentence-Transformers",
            "merged model",
            "can",
            "python -c 'from sentence_transformers import SentenceTransformer; "
            'print(SentenceTransformer(".").encode("text"))\'',
            f"{head} encode gives the logits in the order of id2label in config.json; their "
            f"{squash} is the probability.",
            finding.SENTENCE_TRANSFORMERS,
        ),
        Finding(
            "transformers",
            "merged model",
            "cannot",
            "",
            f"{head} No class of transformers pools so; a pipeline would begin a head at random. "
            "Load the folder with Sentence-Transformers.",
            finding.TRANSFORMERS,
        ),
        Finding(
            "vLLM",
            "merged model",
            "unknown",
            "",
            f"{head} Whether its pooling runner applies the Dense module was not tried.",
            _VLLM_POOLING,
        ),
        Finding("llama.cpp", "GGUF file", "cannot", "", none, finding.LLAMA_CPP),
        Finding("Ollama", "GGUF file", "cannot", "", none, finding.OLLAMA),
    ]


def _of_encoder(folder: Path, config: dict[str, Any]) -> list[Finding]:
    """Return what serves the classifiers of encoders beside; nothing for decoders."""
    if config.get("model_type") not in ENCODERS:
        return []
    record = onnx_record.read(folder)
    if record is None:
        verdict: finding.Verdict = "needs"
        reason = "Not in this folder: ship it with --onnx."
    else:
        verdict = "can"
        measured = "; ".join(
            f"{one.file} ({one.size_bytes / 1e6:,.1f} MB): probabilities within "
            f"{one.max_difference:.1e} of the merged model, same labels for {one.same_labels:.2%}, "
            f"{one.median_milliseconds:.1f} ms a text"
            for one in record.files
        )
        num_texts = record.num_texts - record.num_other_tokens
        reason = f"{measured} (onnx/parity.json, {num_texts:,} {record.texts}, one thread)."
        reason += f" {record.warning()}" if record.warning() else ""
    return [
        _of_tei(config, is_pooled=(folder / DENSE_WEIGHTS).is_file()),
        Finding(
            "onnxruntime",
            "ONNX graph",
            verdict,
            f"pip install onnxruntime tokenizers\npython -c '{onnx_record.SCRIPT}' \"a text\"",
            f"{reason} Outputs: logits and probabilities (softmax or sigmoid inside); labels and "
            "length in the metadata of the graph.",
            finding.ONNXRUNTIME,
        ),
    ]


def _of_tei(config: dict[str, Any], *, is_pooled: bool) -> Finding:
    name = "text-embeddings-inference"
    if is_pooled or config["model_type"] not in _TEI_KINDS:
        reason = (
            "Its README names no folders with a Dense module."
            if is_pooled
            else f"Its README names classifiers of {', '.join(_TEI_KINDS)}, not of this kind."
        )
        return Finding(name, "merged model", "unknown", "", f"{reason} Not tried.", finding.TEI)
    is_multi_label = config.get("problem_type") == "multi_label_classification"
    sigmoid = (
        " Several labels may hold at once: check that it applies a sigmoid, not a softmax."
        if is_multi_label
        else ""
    )
    return Finding(
        name,
        "merged model",
        "needs",
        "text-embeddings-router --model-id . --dtype float32 --hostname 127.0.0.1 --port 8080",
        f"Prompted at /predict; not run here.{sigmoid}",
        finding.TEI,
    )


def _sampling_defaults(folder: Path) -> list[str]:
    """Return what generation_config.json would change about greedy answers."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))
    plain = {
        "do_sample": False,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 50,
        "repetition_penalty": 1.0,
        "min_p": None,
    }
    return [k for k, default in plain.items() if told.get(k) not in (None, default)]


def _dtype(config: dict[str, Any]) -> str:
    told = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return str(told) if told in ("float16", "bfloat16") else "bfloat16"
