"""Documents of a run with everything that must stand in them, for tests that write them by hand."""

from __future__ import annotations

from typing import Any

RECORD: dict[str, Any] = {
    "name": "a-run",
    "recipe": "qa",
    "base": {"identity": "sha256:0", "checkpoint": "folder"},
    "data": {"files": {}, "fingerprint": "sha256:1"},
    "rows": {"train": 20, "validation": 0, "test": 10, "dropped": 0},
    "seed": 0,
    "is_private": False,
    "started": "2026-11-25T12:00:00+00:00",
    "versions": {},
    "machine": {"cores": 1, "memory_gb": 1.0, "gpus": []},
}
"""Without ``source``, which a release leaves out."""

MERGE: dict[str, Any] = {
    "into": "dequantised nf4",
    "identity": "sha256:2",
    "base": "sha256:0",
    "adapter": "sha256:3",
    "tensors": {},
    "proof": {
        "mean_kl_nats": 1e-5,
        "noise_floor_mean_kl_nats": 1e-5,
        "limit_mean_kl_nats": 1e-3,
        "top1_agreement": 1.0,
        "num_positions": 100,
    },
}
