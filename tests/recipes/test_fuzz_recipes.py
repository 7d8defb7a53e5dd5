"""A recipe file can be wrong in any way; the answer is an error with its line, no traceback."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from recipes import config
from recipes.errors import InputError, Problems
from recipes.starter import RECIPES

SCALARS = (
    *("2026-13-45", "2026-01-31", "2026-01-31T10:00:00+99:99", "12:30:45", "!!timestamp x"),
    *("!!int abc", "!!int", "!!float x", "!!float", "!!bool maybe", "!!null x", "!!binary '%%'"),
    *("!!binary aGk=", "!!str", "!!str 1", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]"),
    *("!python/object:os.system ls", "!!python/name:os.system", "!foo", "!foo [1]", "!foo {a: 1}"),
    *("&a [*a]", "&a {a: *a}", "&a {<<: *a}", "*b", "{<<: 1}", "{<<: [1]}", "<<", "=", "&", "*"),
    *("{<<: {a: 1}, a: 2}", "{<<: [{a: 1}, {a: 2}]}", "{a: 1, a: 2}", "{1: a, '1': b}"),
    *(".nan", ".inf", "-.inf", "1e999", "-0", "0o9", "0xZ", "0x" + "f" * 6000, "9" * 6000, "1_0"),
    *("+_", "._", "1__", "~", "null", "true", "yes", "''", '""', "'", '"', "[", "]", "{", "}"),
    *("{? [a]: 1}", "{? {a: 1}: 1}", "{null: 1, true: 2, 1.5: 3}", "? a", "? [a]\n: b", "- a"),
    *(r'"\ud800"', r'"\uD83D\uDE00"', r'"\0\x07\x1b[31m"', r'"\U00110000"', r'"\q"', r'"\N\L\P"'),
    *("\0", "\x07", "\x1b[31m", "\x85", "\u2028", "\ufeff", "\ufffe", "\U0001f600", "e\u0301"),
    *(
        "[" * 60,
        "[" * 60 + "]" * 60,
        "{a: " * 1000 + "1" + "}" * 1000,
        "- " * 2000,
        "|",
        ">-",
        "|9",
    ),
    *("%YAML 9.9", "---", "...", "--- a\n--- b", "@", "`", "#", "a: b: c", "\t", "x" * 20_000),
    *("[" + "a, " * 500 + "]", "{}", "[]", "[[], {}]", "[null]", "[1, [2]]", "-1", "0", "2.5"),
)
"""What a value is replaced by."""


def flip(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    given = rng.choice((chr(rng.randrange(32, 127)), chr(rng.randrange(0xD7FF)), "", "\n", ":"))
    return text[:at] + given + text[at + 1 :]


def swap_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return "".join(lines)


def repeat_line(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return "".join(lines)


def replace_value(text: str, rng: random.Random) -> str:
    values = [*re.finditer(r"(?<=: )[^\s,{}#]+|(?<=: )\{[^}]*\}|^ *\w+(?=:)", text, re.MULTILINE)]
    if not values:
        return text
    value = rng.choice(values)
    return text[: value.start()] + rng.choice(SCALARS) + text[value.end() :]


def indent(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((" " * rng.randrange(9), "\t")) + lines[at].lstrip(" ")
    return "".join(lines)


def uncomment(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = re.sub(r"^( *)# ?", r"\1", lines[at])
    return "".join(lines)


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    *(flip, swap_lines, repeat_line, indent, uncomment),
    *(replace_value, replace_value, replace_value),
)


def preset(recipe: str) -> str:
    return (resources.files("recipes") / "presets" / f"{recipe}.yaml").read_text(encoding="utf-8")


def check_answer(path: Path, content: bytes) -> None:
    """A recipe loads, and again from what it is dumped as; or the error names file and line."""
    path.write_bytes(content)
    try:
        loaded = config.load(path)
    except InputError as error:
        refused = error
    else:
        path.write_text(config.dump(loaded), encoding="utf-8")
        assert config.dump(config.load(path)) == config.dump(loaded)
        return
    message = str(refused)
    places = [p.where for p in refused.problems] if isinstance(refused, Problems) else [message]
    assert all(re.match(rf"{path}:\d+(: |$)", place) for place in places), message
    message.encode()  # what a terminal of UTF-8 can show
    assert len(message) < 10_000


def check_mutants(path: Path, seeds: range) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        text = preset(rng.choice(RECIPES))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            text = rng.choice(MUTATIONS)(text, rng) or text
        content = text.encode("utf-8", "surrogatepass")
        try:
            check_answer(path, content)
        except Exception as error:
            raise AssertionError(f"mutant {seed}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_a_mutated_recipe_loads_or_is_an_error_with_its_line(tmp_path: Path, start: int) -> None:
    check_mutants(tmp_path / "r.yaml", range(start, start + 50))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1_000, 11_000, 500))
def test_ten_thousand_mutated_recipes_load_or_are_errors_with_their_lines(
    tmp_path: Path, start: int
) -> None:
    check_mutants(tmp_path / "r.yaml", range(start, start + 500))


@pytest.mark.parametrize("scalar", SCALARS, ids=range(len(SCALARS)))
def test_an_override_of_any_value_is_taken_or_refused(tmp_path: Path, scalar: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(preset("qa"), encoding="utf-8")
    for key in ("name", "data.train", "train.epochs", "data.columns", "gate", "data", "a.b"):
        message = "--set"
        try:
            config.dump(config.load(path, [f"{key}={scalar}"]))
        except InputError as error:
            message = str(error)
        assert "--set" in message
        assert message.replace("\n", "").isprintable()


def test_aliases_that_grow_exponentially_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join(levels), encoding="utf-8")
    with pytest.raises(InputError, match=r"r\.yaml:\d+: more than 100,000 values"):
        config.load(path)


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"name: a\ndata:\n  train: 2026-13-45\n", 3, "'2026-13-45' is no valid date"),
        (b"name: a\ndata:\n  train: !!int abc\n", 3, "'abc' is no valid number"),
        (b"name: a\nrecipe: 2026-01-01\n", 2, "a date has no meaning here; put quotes around it"),
        (b"name: a\nrecipe: !foo [1]\n", 2, "the tag '!foo' has no meaning here"),
        (b"name: a\n? [a]\n: b\n", 2, "a key must be a word"),
        (b"name: a\ndata: {label_map: {1: a, '1': b}}\n", 2, "the key '1' stands twice"),
        (b'name: a\nrecipe: "\\ud800"\n', 2, "half a character"),
        (b"name: a\nrecipe: \x07\n", 2, r"character U+0007 is not allowed"),
        (b"name: a\nrecipe: caf\xe9\n", 2, "not UTF-8"),
        (b"name: a\nrecipe: " + b"[" * 3000, 2, "nested more than 50 levels deep"),
    ],
)
def test_what_no_recipe_can_hold_is_named_with_its_line(
    tmp_path: Path, content: bytes, line: int, words: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"r.yaml:{line}: ")) as caught:
        config.load(path)
    assert words in str(caught.value)


def test_text_that_yaml_gives_a_meaning_of_its_own_is_text(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(preset("classification"), encoding="utf-8")
    for given, text in (("=", "="), ("<<", "<<"), ("!!str 1", "1"), ("'2026-01-31'", "2026-01-31")):
        assert config.load(path, [f"data.group={given}"]).data.group == text


def test_keys_of_a_label_map_are_labels_whatever_yaml_takes_them_for(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(preset("classification"), encoding="utf-8")
    label_map = config.load(path, ["data.label_map={true: a, 2: b, null: c, no: d}"]).data.label_map
    assert label_map == {"true": "a", "2": "b", "null": "c", "no": "d"}
