"""What the evaluation refuses: one error, for input on which no honest figure can be given."""

from __future__ import annotations


class EvaluationError(ValueError):
    """This input cannot be evaluated.

    The message says what was asked, what was found, what was wanted, and the way out. It is the
    user's to mend (data, settings), so it is shown without a traceback.
    """
