"""Where the command begins: stop signals end it cleanly before anything slow is imported."""

from __future__ import annotations

from typing import NoReturn

from recipes import stops


def main() -> NoReturn:
    """Run the command line."""
    stops.end_at_once_from_now_on()
    from recipes.cli import main as run

    run()
