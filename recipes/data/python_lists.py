"""Lists that a table holds as Python or NumPy prints them: ``['a', 'b']``, ``['a' 'b']``."""

from __future__ import annotations

import ast
import io
import tokenize
from typing import Any

_BREAKS = frozenset((tokenize.NL, tokenize.NEWLINE))


def python_value(text: str) -> Any:
    """Return the value that a text writes in Python's form. Runs nothing of it.

    NumPy prints an array of texts without commas, which Python would take for one text: here each
    is one of its own. What pandas prints around a list in an object (``array([...],
    dtype=object)``) is left out.

    Raises:
        ValueError: if it is no such value.

    Example:
        >>> python_value("['a', 'b']"), python_value("['a' 'b']")
        (['a', 'b'], ['a', 'b'])
        >>> python_value("{'text': array(['a'], dtype=object)}")
        {'text': ['a']}
    """
    try:
        tree = ast.parse(_with_commas(text.strip()), mode="eval")
        return ast.literal_eval(_Arrays().visit(tree))
    except (SyntaxError, MemoryError, RecursionError, TypeError, tokenize.TokenError) as error:
        raise ValueError("not a value in Python's form") from error


class _Arrays(ast.NodeTransformer):
    """Replaces ``array([...])`` by the list in it."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_array = isinstance(node.func, ast.Name) and node.func.id == "array" and node.args
        return self.visit(node.args[0]) if is_array else node


def _with_commas(text: str) -> str:
    """Return a text with a comma between texts that only white space separates.

    Raises:
        ValueError: if nothing separates two texts, as where a quote in a text is doubled.
    """
    lines = text.splitlines(keepends=True)
    places: list[tuple[int, int]] = []
    before: tuple[int, int] | None = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _BREAKS:
            continue
        is_text = token.type == tokenize.STRING
        if is_text and before == token.start:
            raise ValueError("two texts without anything between them")
        if is_text and before is not None:
            places.append(before)
        before = token.end if is_text else None
    for row, column in reversed(places):
        line = lines[row - 1]
        lines[row - 1] = f"{line[:column]},{line[column:]}"
    return "".join(lines)
