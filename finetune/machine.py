"""What this machine computes on: the device, the type of its numbers, and the threads."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import torch

from finetune.cores import num_threads as threads_of
from finetune.errors import InputError

DEVICE = "ASSAY_DEVICE"
"""The environment variable that names a device: ``cpu``, ``cuda`` or ``mps``."""

_PROCESSOR = Path("/proc/cpuinfo")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h; see mallopt(3)
_ON_THE_CPU = f"compute on the processor instead: set the environment variable {DEVICE}=cpu"


def device() -> torch.device:
    """Return what training and evaluation run on: CUDA where there is one, else the processor.

    ``ASSAY_DEVICE`` chooses another. Apple's GPU (``mps``) is used only if it is named there:
    nobody has compared its numbers with the processor's for this program.

    Raises:
        InputError: if ``ASSAY_DEVICE`` names a device that torch does not have here.
    """
    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    wanted = os.environ.get(DEVICE, "").strip().lower() or ("cuda" if is_there["cuda"] else "cpu")
    if not is_there.get(wanted):
        at_hand = ", ".join(name for name in is_there if is_there[name])
        raise InputError(
            f"{DEVICE} names the device {wanted!r}, and torch {torch.__version__} has "
            f"{at_hand} here; name one of these, or unset it"
        )
    if wanted == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(wanted)


def refuse_4bit() -> None:
    """Refuse a 4-bit base on Apple's GPU.

    bitsandbytes 0.50 computes it there by code that it downloads (see `finetune.outside`), else by
    operations of torch, and nobody has compared their codes with those of other machines.

    Raises:
        InputError: if the device is such a one.
    """
    if device().type == "mps":
        raise InputError(
            "base.quantization: nf4 is not computed on Apple's GPU, whose 4-bit codes nobody has "
            f"compared with other machines'. Set base.quantization: none, or {_ON_THE_CPU}"
        )


def refuse_float64(what: str) -> None:
    """Refuse what computes in float64 on Apple's GPU, which has no such numbers.

    Args:
        what: computes so, to begin a sentence with.

    Raises:
        InputError: if the device is such a one.
    """
    if device().type == "mps":
        raise InputError(
            f"{what} computes in float64, which Apple's GPU does not have; {_ON_THE_CPU}"
        )


def prepare_cpu(num_threads: int | None) -> None:
    """Let torch use ``num_threads`` (None: see `finetune.cores.num_threads`), without denormals.

    Call it before any other work of torch, because its worker threads inherit the setting. As a
    model learns, most of its gradients shrink below the smallest normal float, and a processor
    computes with such numbers many times slower.

    And what is freed stays with the process, where the C library is glibc. By itself it gives the
    activations of each micro-batch back to the kernel and asks for them again at the next, in
    pages of 4 KB: up to 670,000 page faults were counted in one step of 16 rows, and 2 s of its 27.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads_of(num_threads))
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        # Setting either ends the adjustment of both. Blocks above 32 MB, the most that it takes,
        # are mapped one by one and given back, as before.
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


def compute_dtype() -> torch.dtype:
    """Return bfloat16 where the hardware is known to multiply it fast, else float32."""
    kind = device().type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if kind == "mps":
        return torch.float32  # the first of these GPUs emulate bfloat16; nothing was measured
    try:
        processor = _PROCESSOR.read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux, or a container that hides it
        return torch.float32
    return torch.bfloat16 if _multiplies_bfloat16_fast(processor) else torch.float32


def _multiplies_bfloat16_fast(cpuinfo: str) -> bool:
    """Say whether products in bfloat16 are faster than in float32, from the text of ``_PROCESSOR``.

    Intel's AMX multiplies bfloat16 many times faster, and AMD's avx512_bf16 twice as fast. Intel's
    avx512_bf16 does not, where AMX is missing or a virtual machine hides it: measured on two
    cores, half the speed of float32 in matrix products, three quarters in training.
    """
    found = dict(re.findall(r"^(flags|vendor_id)\s*:(.*)$", cpuinfo, re.MULTILINE))
    flags = set(found.get("flags", "").split())
    return "amx_bf16" in flags or (
        "avx512_bf16" in flags and found.get("vendor_id", "").strip() == "AuthenticAMD"
    )
