"""What every settings class of this package is made of."""

from pydantic import BaseModel


class Settings(
    BaseModel,
    frozen=True,
    strict=True,
    extra="forbid",
    allow_inf_nan=False,
    use_attribute_docstrings=True,
):
    """Frozen values in which an unknown key, a wrong type, NaN and infinity are errors."""
