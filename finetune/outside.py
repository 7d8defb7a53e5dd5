"""What libraries would send to others, or fetch and run, unless they are told not to.

- trl 1.16 reports each trainer that is made to the Hub, with the model's kind and the device
  (``trl/trainer/base_trainer.py``).
- huggingface_hub and mlflow count what they are used for.
- bitsandbytes 0.50 fetches compiled code from the Hub where the package ``kernels`` is installed:
  on processors with avx512_bf16 as soon as it is imported (``backends/cpu/ops.py``), on Apple's
  GPU as it computes. transformers does so for some models. Nobody has checked that code, and it
  would make two machines compute differently.

Trackers that a recipe names (``train.report_to``) are not concerned.
"""

from __future__ import annotations

import os
import sys

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",  # https://consoledonottrack.com
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Environment variables, for this process and those that it starts."""


def close() -> None:
    """Let no library of this process report its use, or run code that it was not installed with.

    Called when `finetune` is imported, because libraries read the environment when they are.
    """
    os.environ.update(NO_TELEMETRY)
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # imported before us
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type] # as if not installed
