"""The two ways in which this pillar refuses."""


class InputError(ValueError):
    """Settings or files that cannot be used; the message says what was found, wanted, and helps."""


class OutOfMemory(InputError):
    """A step that does not fit in memory, however it is cut."""


class IntegrityError(Exception):
    """Something is not what it claims to be: another base, a changed file, a failed proof."""
