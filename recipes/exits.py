"""Which exit code an expected error has; an unexpected one has none and shows its traceback."""

from __future__ import annotations

from eval.errors import EvaluationError
from finetune.errors import InputError as FinetuneInputError
from finetune.errors import IntegrityError
from privacy.errors import BudgetSpent, LedgerError, PrivacyError
from recipes.dsse import SignatureDiffers
from recipes.errors import DecisionVoid, GateRefused, InputError, ReleaseDiffers, RunDiffers

INPUT, GATE, BUDGET, INTEGRITY = 2, 3, 4, 5

CODES: tuple[tuple[type[Exception], int], ...] = (
    (InputError, INPUT),
    (FinetuneInputError, INPUT),
    (EvaluationError, INPUT),
    (PrivacyError, INPUT),
    (GateRefused, GATE),
    (BudgetSpent, BUDGET),
    (IntegrityError, INTEGRITY),
    (DecisionVoid, INTEGRITY),
    (RunDiffers, INTEGRITY),
    (LedgerError, INTEGRITY),
    (ReleaseDiffers, INTEGRITY),
    (SignatureDiffers, INTEGRITY),
    (OSError, INPUT),  # no space left, no permission: the system's own words, with the path
)


def code_of(error: BaseException) -> int | None:
    """Return the exit code of an expected error, or None."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    return None
