from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.text import clean, clip, epsilon, interval, number, scientific


def test_clean_keeps_what_a_person_reads() -> None:
    text = "Grüße, 日本語, مرحبا, \u0928\u093f\u200d, tab\tand\nline"
    assert clean(text) == text


@given(st.text(alphabet=st.characters(), max_size=60))
def test_clean_is_stable_and_can_be_written(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    once.encode()


def test_clean_takes_an_ansi_sequence_whole() -> None:
    assert clean("\x1b[1;31mno\x1b[0m \x9b2Kyes") == "no yes"


def test_clean_cannot_be_nested_into_an_escape() -> None:
    assert "\x1b" not in clean("\x1b\x1b[0m[31m")


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_rounded_epsilon_never_understates(value: float) -> None:
    assert Decimal(epsilon(value)) >= Decimal(repr(value))


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.71234, 0.6612, 0.7589, ("0.712", "[0.661, 0.759]")),
        (12.345, 10.1, 14.9, ("12.3", "[10.1, 14.9]")),
        (1234.5, 1100.0, 1400.0, ("1,234", "[1,100, 1,400]")),
        (0.0, 0.0, 0.0881, ("0.000", "[0.000, 0.088]")),
        (2.0, 2.0, 2.0, ("2.00", "[2.00, 2.00]")),
        (0.0, 0.0, 0.0, ("0", "[0, 0]")),
        (5.0, 1.0, math.inf, ("5.00", "[1.00, infinite]")),
        (math.nan, math.nan, math.nan, ("undefined", "")),
    ],
)
def test_an_interval_has_the_digits_that_its_width_supports(
    value: float, low: float, high: float, shown: tuple[str, str]
) -> None:
    assert interval(value, low, high) == shown


def test_an_end_beyond_noise_is_never_written_as_zero() -> None:
    assert interval(0.05, 0.0003, 0.0997, signed=True) == (
        "+0.0500",
        "[+0.0003, +0.0997]",
    )


def test_minus_zero_has_no_sign() -> None:
    assert interval(-0.0001, -0.3, 0.3, signed=True)[0] == "0.00"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1e-5, "1 \u00d7 10⁻⁵"), (2.345e-7, "2.34 \u00d7 10⁻⁷"), (0.05, "0.0500"), (0.0, "0")],
)
def test_delta_is_written_as_a_power_of_ten(value: float, shown: str) -> None:
    assert scientific(value) == shown


@given(st.floats(), st.floats(), st.floats())
def test_no_number_breaks_the_writing(value: float, low: float, high: float) -> None:
    for text in (number(value), epsilon(value), scientific(value), *interval(value, low, high)):
        assert "nan" not in text
        assert len(text) < 400


def test_clip_cuts_between_words() -> None:
    assert clip("one two three four", 12) == "one two"
    assert clip("short", 12) is None
    assert clip("x" * 20, 12) == "x" * 12
