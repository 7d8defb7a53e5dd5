"""Proof that a merged model is what was evaluated: its tensors, its changes, its answers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from finetune import adapter as adapters
from finetune import adapter_files, reload, sentence_folder
from finetune import checkpoint as checkpoints
from finetune import scratch as scratches
from finetune.adapter_files import HEADS, AdapterFiles, AdapterRecord
from finetune.errors import InputError, IntegrityError
from finetune.merge import longest_text, merge, read_head, write_serving_base
from finetune.merge_record import DEQUANTISED, MERGE_RECORD, sealed
from finetune.quantization import compute_in_float32
from finetune.recompute import check_head, check_weight
from finetune.room import NO_MEMORY
from finetune.tensor_files import open_weights, read_strict_json
from finetune.update import tensor_of

MAX_TOKENS = 256
"""Of each probe text."""


_NUM_AS_LOADED = 4
"""So many texts are asked of the model as a stranger loads it: slow in float16 on most CPUs."""


class BeyondStorage(IntegrityError):
    """The merged weights are right, and computing in their own type goes wrong."""


@dataclass(frozen=True)
class Agreement:
    """How far one model's answers are from another's, over the same positions."""

    mean_kl: float
    """Mean Kullback-Leibler divergence in nats of the second from the first."""

    p99_kl: float
    top1: float
    """Share of positions at which both prefer the same token or class."""

    num_positions: int


def agreement(first: Sequence[Tensor], second: Sequence[Tensor]) -> Agreement:
    """Compare two lists of logits, ``(N_i, V)`` each; the first is the reference."""
    kls, same = [], []
    for a, b in zip(first, second, strict=True):
        p, q = a.float().log_softmax(-1), b.float().log_softmax(-1)
        kls.append((p.exp() * (p - q)).sum(-1))
        same.append(p.argmax(-1) == q.argmax(-1))
    kl, top = torch.cat(kls), torch.cat(same)
    return Agreement(
        mean_kl=kl.mean().item(),
        p99_kl=kl.quantile(0.99).item(),
        top1=top.float().mean().item(),
        num_positions=len(kl),
    )


@torch.no_grad()
def logits_on(base: checkpoints.Base, model: Any, texts: Sequence[str]) -> list[Tensor]:
    """Return the logits of every position of every text (of the text itself, for a classifier)."""
    model.eval()
    device = next(model.parameters()).device
    is_bf16 = base.quantization.compute_dtype == "bfloat16"
    context: AbstractContextManager[Any] = (
        torch.autocast(device.type, torch.bfloat16) if is_bf16 else nullcontext()
    )
    with context:
        return _asked(model, base.tokenizer, texts)


def _asked(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[Tensor]:
    device, found = next(model.parameters()).device, []
    for text in texts:
        ids = torch.tensor([probe_tokens(tokenizer, text)], device=device)
        mask = torch.ones_like(ids)
        logits = model(input_ids=ids, attention_mask=mask).logits
        found.append(logits.reshape(-1, logits.shape[-1]).float().cpu())
    return found


@torch.no_grad()
def _as_loaded(folder: Path, record: AdapterRecord, texts: Sequence[str]) -> list[Tensor]:
    """Return the logits of a merged folder in the type that its config.json names.

    That is how transformers and every engine load it, and how nobody here has computed so far.
    """
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = json.loads((folder / MERGE_RECORD).read_text(encoding="utf-8"))["storage"]["dtype"]
    dtype = getattr(torch, values.get("dtype") or values.get("torch_dtype") or stored)
    loaded = _load(folder, record, "none", dtype)
    return _asked(loaded.model.eval(), loaded.tokenizer, texts)


def probe_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a probe text, cut to `MAX_TOKENS`."""
    longest = checkpoints.longest(tokenizer, MAX_TOKENS)
    return list(tokenizer(text, truncation=True, max_length=longest)["input_ids"])


def merge_proved(
    base_folder: Path,
    adapter_folder: Path,
    out: Path,
    texts: Sequence[str],
    *,
    into: str = "dequantised",
    storage: str = "auto",
) -> dict[str, Any]:
    """Merge (`finetune.merge.merge`), prove the result, and only then give it its name.

    Whatever ends this on the way, there is no folder ``out``: at most a hidden one beside it, which
    the next call removes. One process at a time may write one ``out``.

    Returns:
        The proof; it stands in ``merge.json`` too.

    Raises:
        IntegrityError: if the merge is not possible, or not proved.
        InputError: as `merge`.
    """
    with _scratch(out) as scratch:
        made = scratch / "merged"
        merge(base_folder, adapter_folder, made, into=into, storage=storage)
        try:
            proof = prove(base_folder, adapter_folder, made, texts)
        except BeyondStorage:
            if storage != "auto":
                raise
            # its weights are within float16's range, and what it computes from them is not
            merge(base_folder, adapter_folder, made, into=into, storage="bfloat16")
            proof = prove(base_folder, adapter_folder, made, texts)
        made.rename(out)
    return proof


def serving_base_proved(
    base_folder: Path,
    adapter_folder: Path,
    out: Path,
    texts: Sequence[str],
    *,
    storage: str = "auto",
) -> dict[str, Any]:
    """Write a serving base, and prove it with one adapter on it; see `merge_proved`."""
    with _scratch(out) as scratch:
        made = scratch / "base"
        write_serving_base(base_folder, adapter_folder, made, storage=storage)
        record = adapters.read_record(adapter_folder)
        tensors = _check_tensors(base_folder, made, record, None)
        _check_numbers(base_folder, made, record, None)
        dtype = getattr(torch, record.quantization.compute_dtype)
        held = checkpoints.load(made, quantization="none", dtype=dtype)
        adapted = adapters.attach(held, {"default": adapter_folder}, is_own_base=False)
        answers = logits_on(held, adapted, texts)
        as_loaded = answers[:_NUM_AS_LOADED]  # in the type in which an engine would hold it
        del held, adapted
        proof = tensors | _check_answers(
            base_folder, adapter_folder, record, answers, texts, as_loaded=as_loaded
        )
        _add_proof(made, proof)
        made.rename(out)
    return proof


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    if out.exists():
        raise InputError(f"{out} exists already; remove it, or name another folder")
    with scratches.beside(out) as made:
        made.mkdir()
        yield made


def prove(
    base_folder: Path, adapter_folder: Path, merged_folder: Path, texts: Sequence[str]
) -> dict[str, Any]:
    """Prove a merged folder against its base and adapter, and add the proof to ``merge.json``.

    Six things must hold:

    - every tensor of the adapter was used once, and the tensors that differ from the base's, by
      their hashes read anew, are those of targeted (or 4-bit) layers and of a trained head;
    - each number that was merged or dequantised is what base and adapter make, computed again in
      float64 (`finetune.recompute`), rounded;
    - the stored change of each layer lies in its update's own directions, but for rounding;
    - the answers on ``texts``: the merged model as it is served and, as the noise floor, the
      evaluated model as it was evaluated are both held against the evaluated model computed in
      float32, and the merged model's mean KL is at most max(1e-3, twice the floor). Where several
      labels may hold at once, each of them counts as a position;
    - loaded in the type that its own config.json names, as every engine does, the merged model
      answers alike too, with room for activations that are rounded to that type;
    - a fresh process, offline, that loads the folder with transformers alone gives the same first
      choice everywhere.

    A merge into the original weights of a 4-bit base is another model than the evaluated one. It
    is proved against those weights with the adapter on them, unmerged; how far it is from the
    evaluated model is measured beside that, and decides nothing here: the gate does.

    Raises:
        IntegrityError: if one of them does not hold; the merged folder is removed, so that nothing
            that looks usable is left.
    """
    try:
        record = adapters.read_record(adapter_folder)
        adapter = adapter_files.inspect(adapter_folder)
        proof = _check_tensors(base_folder, merged_folder, record, adapter)
        proof |= _check_changes(merged_folder, adapter)
        _check_numbers(base_folder, merged_folder, record, adapter)
        made = json.loads((merged_folder / MERGE_RECORD).read_text(encoding="utf-8"))
        dtype = getattr(torch, record.quantization.compute_dtype)
        merged = _load(merged_folder, record, "none", dtype)
        answers = logits_on(merged, merged.model, texts)
        ids = [probe_tokens(merged.tokenizer, text) for text in texts]
        del merged
        proof |= _check_answers(
            base_folder,
            adapter_folder,
            record,
            answers,
            texts,
            as_loaded=_as_loaded(merged_folder, record, texts[:_NUM_AS_LOADED]),
            is_new_candidate=made["is_new_candidate"],
        )
        proof |= _check_reload(merged_folder, record, answers, ids)
        _add_proof(merged_folder, proof)
    except IntegrityError as error:
        shutil.rmtree(merged_folder)
        raise type(error)(f"{error}; the merged folder was removed") from None
    return proof


def _add_proof(folder: Path, proof: Mapping[str, Any]) -> None:
    path = folder / MERGE_RECORD
    made = json.loads(path.read_text(encoding="utf-8")) | {"proof": proof}
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps(sealed(made), indent=1, sort_keys=True) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.chmod(0o644)
    part.replace(path)


def _check_tensors(
    base_folder: Path, folder: Path, record: AdapterRecord, adapter: AdapterFiles | None
) -> dict[str, Any]:
    """Hash every tensor of both folders anew and compare them."""
    made = json.loads((folder / MERGE_RECORD).read_text(encoding="utf-8"))
    if adapter and made["adapter_tensors_used_once"] != sorted(adapter.weights.entries):
        raise IntegrityError("the merge did not use every tensor of the adapter exactly once")
    is_dequantised = made["into"] == DEQUANTISED
    layers = set(record.layers if adapter else ())
    layers |= set(record.quantization.modules if is_dequantised else ())
    heads = set(adapter.heads if adapter else ())
    may_change = {f"{layer}.weight" for layer in layers} | heads
    before = {name: file for file in checkpoints.check_files(base_folder) for name in file.entries}
    after = {name: file for file in open_weights(folder) for name in file.entries}
    may_go = {name for name in before if heads and name.rpartition(".")[0] in HEADS} | heads
    odd = (set(before) - may_go) ^ (set(after) - heads)
    changed = []
    for name, file in after.items():
        digest = file.sha256(name)
        if digest != made["tensor_sha256"].get(name):
            odd.add(name)
        if name not in before or digest != before[name].sha256(name):
            changed.append(name)
    odd |= set(changed) - may_change
    if odd:
        raise IntegrityError(
            f"{len(odd)} tensors of the merged model are neither the base's nor what was merged, "
            f"first {min(odd)}"
        )
    with scratches.elsewhere() as own:
        checkpoints.copy_tokenizer(base_folder, own, prompt=record.prompt)
        for name in checkpoints.TOKENIZER_FILES:
            found, wanted = folder / name, own / name
            if found.is_file() != wanted.is_file() or (
                found.is_file() and found.read_bytes() != wanted.read_bytes()
            ):
                raise IntegrityError(f"{name} of the merged model is not its base's")
    _check_settings(base_folder, folder, record)
    if adapter and record.pooling not in (None, "model"):
        tokenizer = checkpoints.load_tokenizer(folder)
        sentence_folder.check(folder, record.pooling, read_head(folder), longest_text(tokenizer))
    return {"num_tensors_changed": len(changed), "num_tensors_as_base": len(after) - len(changed)}


_OF_A_CLASSIFIER = frozenset(
    {
        "architectures",
        "id2label",
        "label2id",
        "problem_type",
        "pad_token_id",
        "transformers_version",
    }
)


def _check_settings(base_folder: Path, folder: Path, record: AdapterRecord) -> None:
    """Hold what a loader is told beside the weights against the base: but for type and labels."""
    said, wanted = (
        json.loads((place / "config.json").read_text(encoding="utf-8"))
        for place in (folder, base_folder)
    )
    is_classifier = record.head == "sequence-classification"
    may_differ = {"dtype", "torch_dtype", "_name_or_path"} | (
        _OF_A_CLASSIFIER if is_classifier else set()
    )
    if is_classifier:  # written anew by transformers, which adds its defaults
        may_differ |= said.keys() - wanted.keys()
    odd = [key for key in said.keys() | wanted.keys() if said.get(key) != wanted.get(key)]
    if odd := sorted(set(odd) - may_differ):
        raise IntegrityError(
            f"config.json of the merged model is not its base's: {', '.join(odd[:5])}"
        )
    texts = [
        path.read_bytes() if path.is_file() else b""
        for path in (place / "generation_config.json" for place in (folder, base_folder))
    ]
    if not is_classifier and texts[0] != texts[1]:
        raise IntegrityError("generation_config.json of the merged model is not its base's")


def _check_numbers(
    base_folder: Path, folder: Path, record: AdapterRecord, adapter: AdapterFiles | None
) -> None:
    """Compute every merged and dequantised weight again; see `finetune.recompute`."""
    made = json.loads((folder / MERGE_RECORD).read_text(encoding="utf-8"))
    is_dequantised = made["into"] == DEQUANTISED
    held = set(record.quantization.modules if is_dequantised else ())
    before = {name: file for file in open_weights(base_folder) for name in file.entries}
    after = {name: file for file in open_weights(folder) for name in file.entries}
    for layer in sorted(held | set(adapter.layers if adapter else ())):
        name = f"{layer}.weight"
        check_weight(
            tensor_of(after[name], name),
            tensor_of(before[name], name),
            name,
            held=record.quantization if layer in held else None,
            adapter=adapter,
        )
    if adapter:
        for name in sorted(adapter.heads):
            check_head(tensor_of(after[name], name), adapter, name)


def _check_changes(folder: Path, adapter: AdapterFiles) -> dict[str, Any]:
    made = json.loads((folder / MERGE_RECORD).read_text(encoding="utf-8"))
    changes = made["changes"]
    strange = [
        layer for layer, c in changes.items() if c["outside"] is not None and not c["outside"] <= 1
    ]
    if set(changes) != set(adapter.layers) or strange:
        raise IntegrityError(
            f"the stored change of {len(strange)} layers goes beyond the adapter's directions by "
            f"more than rounding explains ({', '.join(strange[:3]) or 'or layers are missing'})"
        )

    def extreme(key: str, choose: Any) -> float | None:
        values = [change[key] for change in changes.values() if change[key] is not None]
        return choose(values) if values else None

    return {
        "update_survival": made["update_survival"],
        "worst_layer_survival": extreme("survival", min),
        "worst_layer_cosine": extreme("cosine", min),
        "largest_rank": extreme("seen_rank", max),
        "worst_outside_over_rounding": extreme("outside", max),
    }


def _load(
    folder: Path,
    record: AdapterRecord,
    quantization: Literal["nf4", "none"],
    dtype: torch.dtype,
    *,
    prompt: str | None = None,
) -> checkpoints.Base:
    return checkpoints.load(
        folder,
        quantization=quantization,
        head=record.head,
        labels=record.labels,
        is_multi_label=record.is_multi_label,
        prompt=prompt,
        pooling=record.pooling or "auto",
        dtype=dtype,
        held_as=record.quantization,
    )


def _reference_logits(
    base_folder: Path,
    adapter_folder: Path,
    record: AdapterRecord,
    texts: Sequence[str],
    dtype: torch.dtype,
    *,
    on_original: bool = False,
) -> list[Tensor]:
    kind: Literal["nf4", "none"] = "none" if on_original else record.quantization.kind
    held_in = getattr(torch, record.quantization.compute_dtype) if kind == "nf4" else dtype
    base = _load(base_folder, record, kind, held_in, prompt=record.prompt)
    if held_in != dtype:
        compute_in_float32(base.model)
        base = replace(base, quantization=replace(base.quantization, compute_dtype="float32"))
    folders = {"default": adapter_folder}
    return logits_on(base, adapters.attach(base, folders, is_own_base=not on_original), texts)


def _check_answers(
    base_folder: Path,
    adapter_folder: Path,
    record: AdapterRecord,
    answers: list[Tensor],
    texts: Sequence[str],
    *,
    as_loaded: Sequence[Tensor],
    is_new_candidate: bool = False,
) -> dict[str, Any]:
    def reference(dtype: torch.dtype, *, on_original: bool) -> list[Tensor]:
        found = _reference_logits(
            base_folder, adapter_folder, record, texts, dtype, on_original=on_original
        )
        return _yes_or_no(found) if record.is_multi_label else found

    if record.is_multi_label:
        answers, as_loaded = _yes_or_no(answers), _yes_or_no(as_loaded)
    exact = reference(torch.float32, on_original=is_new_candidate)
    dtype = getattr(torch, record.quantization.compute_dtype)
    seen = agreement(exact, answers)
    floor = agreement(exact, reference(dtype, on_original=is_new_candidate))
    limit = max(3e-2 if _routes(base_folder) else 1e-3, 2 * floor.mean_kl)
    proof: dict[str, Any] = {
        "probe_sha256": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
        "num_texts": len(texts),
        "num_positions": seen.num_positions,
        "mean_kl_nats": seen.mean_kl,
        "p99_kl_nats": seen.p99_kl,
        "top1_agreement": seen.top1,
        "noise_floor_mean_kl_nats": floor.mean_kl,
        "noise_floor_p99_kl_nats": floor.p99_kl,
        "noise_floor_top1_agreement": floor.top1,
        "limit_mean_kl_nats": limit,
    }
    if not seen.mean_kl <= limit:
        raise IntegrityError(
            f"the merged model answers otherwise than the evaluated one: mean KL "
            f"{seen.mean_kl:.2g} nats over {seen.num_positions} positions, limit {limit:.2g}"
        )
    # activations are rounded too, at every step: measured, up to some times the floor
    rough = max(1e-2, limit, 10 * floor.mean_kl)
    loaded = agreement(exact[: len(as_loaded)], as_loaded).mean_kl
    proof["as_loaded_mean_kl_nats"] = loaded if math.isfinite(loaded) else None
    if not loaded <= rough:
        raise BeyondStorage(
            "loaded in the type that its config.json names, the merged model answers otherwise "
            f"than the evaluated one: mean KL {loaded:.2g} nats, limit {rough:.2g}. What it "
            "computes goes beyond that type; merge it with --storage bfloat16"
        )
    if is_new_candidate:
        evaluated = agreement(reference(torch.float32, on_original=False), answers)
        proof["from_the_evaluated_model"] = {
            "mean_kl_nats": evaluated.mean_kl,
            "p99_kl_nats": evaluated.p99_kl,
            "top1_agreement": evaluated.top1,
        }
    return proof


def _routes(folder: Path) -> bool:
    """Return whether a model sends each token to some of its experts.

    Where two of them are close, rounding decides, and every later position sees the other one: the
    mean over a few texts is then that of a few such events, here as in the noise floor (measured
    on small models: up to ten times apart). That the weights are right is seen on them.
    """
    config = read_strict_json(folder / "config.json")
    return bool((config.get("text_config") or config).get("num_experts_per_tok"))


def _yes_or_no(logits: Sequence[Tensor]) -> list[Tensor]:
    """Make each class a choice of its own: sigmoid(z) is the softmax of (0, z)."""
    return [torch.stack([torch.zeros_like(z), z], -1).reshape(-1, 2) for z in logits]


def _check_reload(
    folder: Path, record: AdapterRecord, answers: Sequence[Tensor], ids: Sequence[list[int]]
) -> dict[str, Any]:
    """Ask a fresh process, which knows nothing but the folder, the same texts."""
    question = {
        "ids": ids,
        "head": record.head,
        "pooling": record.pooling,
        "dtype": record.quantization.compute_dtype,
        "device": str(checkpoints.device()),
        "num_threads": torch.get_num_threads(),
        "flushes_denormals": bool((torch.tensor([1e-40]) * 1 == 0).all()),
    }
    with scratches.elsewhere() as elsewhere:
        done = subprocess.run(  # noqa: S603 (this interpreter, our file, a folder as argument)
            [sys.executable, "-P", str(Path(reload.__file__)), str(folder.resolve())],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            cwd=elsewhere,
            encoding="utf-8",
        )
    if done.returncode != 0:
        # the kernel kills what is too large
        was_killed = hasattr(signal, "SIGKILL") and done.returncode == -signal.SIGKILL
        if was_killed or NO_MEMORY.search(done.stderr):
            raise MemoryError("a fresh process that loads the merged folder")
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise IntegrityError(f"a fresh process could not load the merged folder: {last[:300]}")
    found = json.loads(done.stdout.splitlines()[-1])
    digest = hashlib.sha256()
    for logits in answers:
        digest.update(logits.contiguous().numpy().data)
    mine = [choice for logits in answers for choice in logits.argmax(-1).tolist()]
    its = [choice for choices in found["choices"] for choice in choices]
    num_other = sum(a != b for a, b in zip(mine, its, strict=True))
    if num_other:
        raise IntegrityError(
            f"a fresh process that loads the merged folder answers otherwise at {num_other} of "
            f"{len(mine)} positions"
        )
    return {"reload_is_bit_identical": found["logits"] == "sha256:" + digest.hexdigest()}
