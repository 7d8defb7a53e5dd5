"""What this pillar refuses, and why the three refusals are kept apart.

A caller acts differently on each: a setting can be changed, a spent budget cannot, and a ledger
that does not hold together calls for a person.
"""


class PrivacyError(ValueError):
    """A setting under which the stated epsilon would not hold.

    The message says what was found, what is wanted, and the way out.
    """


class BudgetSpent(Exception):
    """Every step that the plan paid for has been charged; the next one would exceed epsilon."""


class LedgerError(Exception):
    """The ledger was edited, cut, replayed or belongs to another run."""
