"""Memory and time of merging a synthetic Llama of 1.1 billion parameters, beside peft's way.

The model (three shards, bfloat16, random) and a LoRA of rank 16 on all linear layers are written to
a temporary folder, some 7 GB with both results. Each merge is a process of its own, one after the
other: ours, peft's (load, merge, save), and one that only imports what ours imports. Then all
merged tensors are compared to the bit. Prints JSON.

    python tests/bench/merge_memory.py [--layers 22] [--nf4]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HIDDEN, MIDDLE, HEADS, KV_HEADS, WORDS, RANK = 2048, 5632, 32, 4, 32_000, 16
KV = HIDDEN // HEADS * KV_HEADS
LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (MIDDLE, HIDDEN),
    "mlp.up_proj": (MIDDLE, HIDDEN),
    "mlp.down_proj": (HIDDEN, MIDDLE),
}


def make_base(folder: Path, num_layers: int) -> None:
    """Write the model, one tensor in memory at a time."""
    import torch

    from finetune.tensor_files import INDEX, TensorWriter

    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": MIDDLE,
        "num_hidden_layers": num_layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": WORDS,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
    }
    (folder / "config.json").write_text(json.dumps(config))
    blocks = [
        {f"model.layers.{i}.{name}.weight": shape for name, shape in LINEAR.items()}
        | {
            f"model.layers.{i}.{norm}_layernorm.weight": (HIDDEN,)
            for norm in ("input", "post_attention")
        }
        for i in range(num_layers)
    ]
    third = -(-num_layers // 3)
    shards: list[dict[str, tuple[int, ...]]] = [
        {n: s for block in blocks[third * k : third * (k + 1)] for n, s in block.items()}
        for k in range(3)
    ]
    shards[0] = {"model.embed_tokens.weight": (WORDS, HIDDEN)} | shards[0]
    shards[2] |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (WORDS, HIDDEN)}
    generator = torch.Generator().manual_seed(0)
    places = {}
    for number, shard in enumerate(shards, 1):
        path = folder / f"model-{number:05d}-of-00003.safetensors"
        with TensorWriter(path, {n: ("BF16", shape) for n, shape in shard.items()}) as writer:
            for name, shape in shard.items():
                made = torch.empty(shape, dtype=torch.bfloat16).normal_(
                    0, 0.02, generator=generator
                )
                writer.write(name, [made.view(-1).view(torch.uint8).numpy().data])
        places |= dict.fromkeys(shard, path.name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def make_adapter(folder: Path, base: Path, num_layers: int, *, is_nf4: bool) -> None:
    """Write a LoRA as if trained on that base, or on its 4-bit weights."""
    import torch
    from safetensors.torch import save_file

    from finetune.checkpoint import identity
    from finetune.quantization import VERSION, Quantization, nf4_round_trip
    from finetune.tensor_files import open_weights
    from finetune.update import tensor_of

    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    names = sorted(f"model.layers.{i}.{name}" for i in range(num_layers) for name in LINEAR)
    factors = {}
    for name in names:
        num_out, num_in = LINEAR[name.split(".", 3)[3]]
        stem = f"base_model.model.{name}.lora_"
        factors[f"{stem}A.weight"] = torch.randn(RANK, num_in, generator=generator) / 45
        factors[f"{stem}B.weight"] = torch.randn(num_out, RANK, generator=generator) / 2000
    save_file(factors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted(name.rpartition(".")[2] for name in LINEAR),
        "bias": "none",
        "init_lora_weights": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    held: dict[str, Any] = {"kind": "none", "compute_dtype": "bfloat16", "version": VERSION}
    if is_nf4:
        files = {name: file for file in open_weights(base) for name in file.entries}
        how, weights = Quantization("nf4"), ((n, f"{n}.weight") for n in names)
        codes = [nf4_round_trip(how, n, tensor_of(files[w], w))[1] for n, w in weights]
        held |= {"kind": "nf4", "modules": names, "layer_codes": codes, "codes": "sha256:00"}
    record = {
        "base": identity(base),
        "head": "causal-lm",
        "labels": [],
        "is_multi_label": False,
        "quantization": held,
        "layers": names,
    }
    (folder / "assay.json").write_text(json.dumps(record))


def child(kind: str, folder: Path) -> None:
    """Do one thing, and print its seconds and this process's peak of resident memory."""
    import torch

    started = time.perf_counter()
    base, adapter = folder / "base", folder / "adapter"
    if kind == "imports":
        import bitsandbytes  # noqa: F401

        from finetune import merge  # noqa: F401
    elif kind == "ours":
        from finetune.merge import merge as merge_files

        merge_files(base, adapter, folder / "ours")
    else:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        merged.save_pretrained(folder / "peft", max_shard_size="800MB")
    print("RESULT", json.dumps({"peak_mb": peak_mb(), "seconds": time.perf_counter() - started}))


def peak_mb() -> float:
    """Return this program's own peak; `getrusage` also counts the parent's before the start."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def compare(folder: Path) -> dict[str, int]:
    """Count the tensors of both results, and those that are equal to the bit."""
    from finetune.tensor_files import open_weights

    ours, theirs = (
        {n: file.sha256(n) for file in open_weights(folder / who) for n in file.entries}
        for who in ("ours", "peft")
    )
    return {
        "tensors": len(ours.keys() | theirs.keys()),
        "bit_identical": sum(theirs.get(name) == digest for name, digest in ours.items()),
    }


def main() -> None:
    """Make the model, measure each, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--nf4", action="store_true", help="ours into dequantised 4-bit weights")
    parser.add_argument("--child", choices=["imports", "ours", "peft"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_base(folder / "base", options.layers)
        make_adapter(folder / "adapter", folder / "base", options.layers, is_nf4=options.nf4)
        figures: dict[str, dict[str, float]] = {}
        kinds = ("imports", "ours") if options.nf4 else ("imports", "ours", "peft")
        for kind in kinds:
            done = subprocess.run(
                [sys.executable, __file__, "--child", kind, "--folder", name],
                env=os.environ | {"HF_HUB_OFFLINE": "1"},
                capture_output=True,
                text=True,
            )
            lines = [one for one in done.stdout.splitlines() if one.startswith("RESULT ")]
            if not lines:
                raise SystemExit(f"{kind} failed; it ends:\n{done.stderr[-3000:]}")
            figures[kind] = json.loads(lines[0].removeprefix("RESULT "))
        largest_mb = MIDDLE * HIDDEN * 4 / 1e6
        bound = 1.3 * (figures["imports"]["peak_mb"] + 4 * largest_mb)
        result: dict[str, Any] = {
            "quantization": "nf4" if options.nf4 else "none",
            "figures": figures,
            "bound_mb": bound,
            "is_within_bound": figures["ours"]["peak_mb"] <= bound,
        }
        if "peft" in figures:
            result["peak_to_peft"] = figures["ours"]["peak_mb"] / figures["peft"]["peak_mb"]
            result |= compare(folder)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
