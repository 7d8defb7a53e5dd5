"""Faults of a file as a whole."""

from __future__ import annotations

from recipes.errors import InputError


class UnreadableFile(InputError):
    """A file cannot be read, or not to its end.

    Args:
        place: the file, with the line where it is known.
        what: is wrong, without text of the file, and the way out.
    """

    def __init__(self, place: object, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.place = str(place)
        self.what = what
