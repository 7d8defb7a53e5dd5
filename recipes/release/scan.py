"""A last look at a release before it leaves: no path, name, secret or customer's text in any file.

The papers are made from `Facts`, which hold none of it. This holds the finished files to that, by
what this machine and this run would betray: their paths, the user's and the machine's name, keys
and tokens by their form, and runs of words that stand in the run's own rows.
"""

from __future__ import annotations

import base64
import getpass
import html
import json
import re
import socket
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recipes.release.layout import MODEL_FILES

NUM_WORDS = 8
"""So many words of a row, one after another, are that row's text and no turn of phrase."""

_MIN_WORDS, _MIN_CHARACTERS = 4, 20
"""A shorter row is looked for as a whole, unless it is shorter than this."""

_MIN_TELLING = 12
"""Characters of a row with a digit or an @, as a name and a number: shorter ones are common."""

_SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token of the Hub": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a token of GitHub": re.compile(r"\b(gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}"),
    "a key of a cloud": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}"),
    "a key of a model's provider": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/:@]+@"),
    "somebody's folder": re.compile(
        r"(?<![\w.])(/home/|/Users/|/root/|/tmp/|/var/folders/|/mnt/)[\w.-]+/|[A-Z]:\\Users\\"
    ),
}
_EVERYBODY = (
    *("root", "admin", "user", "users", "ubuntu", "debian", "ec2-user", "jenkins", "runner"),
    *("vscode", "jovyan", "nobody", "localhost", "localhost.localdomain", "host", "docker"),
)
"""Names of users and machines that tell nobody's."""

_OF_EVERYBODY = frozenset(
    {*("/", "/tmp", "/var/tmp", "/root", "/home", "/opt", "/srv", "/mnt"), "/data", "/app", "/work"}  # noqa: S108
)
"""Folders that every machine has: only what lies below them tells one from another."""

_LOCAL_NAME = re.compile(r'"_?name_or_path"\s*:\s*"(/|~|\.{1,2}/|[A-Za-z]:[\\/])')
"""Where a model was loaded from, as older libraries write it into its configuration."""

_WORD = re.compile(r"\w+")
_TELLING = re.compile(r"[\d@]")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
    "|[\U00020000-\U0003ffff]"
)
"""Letters of scripts that put no space between words: Thai, Lao, Burmese, Khmer, kana, Han."""


def places(folders: Iterable[Path]) -> dict[str, str]:
    """Return what this machine would betray, in words, by the text that does."""
    paths = {str(folder.expanduser().resolve()) for folder in (*folders, Path.home())}
    found = dict.fromkeys(paths - _OF_EVERYBODY, "a path of this machine")
    names = {_user(): "the user's name", socket.gethostname(): "the machine's name"}
    found |= {n: what for n, what in names.items() if len(n) > 3 and n.lower() not in _EVERYBODY}
    return {text: what for text, what in found.items() if len(text) > 3}


def leaks(
    files: Mapping[str, Path], betraying: Mapping[str, str], rows: Iterable[str]
) -> list[str]:
    """Return what must not leave, and in which file it stands; never the text itself.

    Args:
        files: of the release, by name. Weights and tokenizer are what they were before.
        betraying: texts of this machine, as `places` gives them.
        rows: texts of the run's own data.
    """
    texts = {name: readable(path) for name, path in files.items() if not _is_weight(name)}
    problems = []
    for name, text in texts.items():
        for wanted, what in betraying.items():
            if re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text):
                problems.append(f"{name}: {what}")
        problems += [f"{name}: {what}" for what, form in _SECRETS.items() if form.search(text)]
    for name in MODEL_FILES:
        if name in texts and _LOCAL_NAME.search(files[name].read_text("utf-8", errors="replace")):
            problems.append(f"{name}: a path (_name_or_path)")
    papers = {name: text for name, text in texts.items() if name not in MODEL_FILES}
    return list(dict.fromkeys([*problems, *_quoted(papers, rows)]))


def readable(path: Path) -> str:
    """Return the text that a person reads in a file: no escapes, envelopes opened."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix in (".json", ".jsonl", ".sig"):
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        try:
            return "\n".join(one for line in lines for one in _strings(json.loads(line)))
        except ValueError:
            return text
    return html.unescape(text)


def _strings(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield key
            if key == "payload" and isinstance(value, str):  # of a signed statement
                value = json.loads(base64.b64decode(value))
            yield from _strings(value)
    elif isinstance(values, list):
        for value in values:
            yield from _strings(value)


def _quoted(papers: Mapping[str, str], rows: Iterable[str]) -> list[str]:
    words = {name: _words(text) for name, text in papers.items()}
    runs = {run for found in words.values() for run in _runs(found, NUM_WORDS)}
    whole = {name: f" {' '.join(found)} " for name, found in words.items()}
    problems: dict[str, None] = {}
    for row in rows:
        found = _words(row)
        if len(found) >= NUM_WORDS:
            quoted = next((run for run in _runs(found, NUM_WORDS) if run in runs), None)
        else:
            is_long = len(found) >= _MIN_WORDS and len(row) >= _MIN_CHARACTERS
            is_telling = len(row) >= _MIN_TELLING and len(found) > 1 and _TELLING.search(row)
            quoted = " ".join(found) if is_long or is_telling else None
        if quoted is not None:
            for name, text in whole.items():
                if f" {quoted} " in text:
                    problems[f"{name}: words of a row of the data"] = None
    return list(problems)


def _words(text: str) -> list[str]:
    """Return the words of a text, however its letters are composed; some letters are words."""
    composed = unicodedata.normalize("NFKC", text).lower()
    return _WORD.findall(_UNSPACED.sub(r" \g<0> ", composed))


def _runs(words: list[str], length: int) -> Iterator[str]:
    for start in range(len(words) - length + 1):
        yield " ".join(words[start : start + length])


def _is_weight(name: str) -> bool:
    return name.endswith(
        (".safetensors", ".gguf", ".onnx", "tokenizer.json", "tokenizer.model", "merges.txt")
    ) or (name == "vocab.json")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return ""
