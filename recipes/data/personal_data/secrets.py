"""Keys, tokens and passwords."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from recipes.data.personal_data.context import has_any
from recipes.data.personal_data.kinds import Kind, Span

_PLUGINS = {  # of detect-secrets: what is in every text that one of its patterns matches
    "artifactory.ArtifactoryDetector": ("AKC", "AP"),
    "aws.AWSKeyDetector": ("AKIA", "ASIA", "ABIA", "A3T"),
    "azure_storage_key.AzureStorageKeyDetector": ("AccountKey",),
    "discord.DiscordBotTokenDetector": ("discord", "Discord", "DISCORD"),
    "github_token.GitHubTokenDetector": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    "gitlab_token.GitLabTokenDetector": ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-"),
    "mailchimp.MailchimpDetector": ("-us",),
    "npm.NpmDetector": ("_authToken",),
    "openai.OpenAIDetector": ("T3BlbkFJ",),
    "pypi_token.PypiTokenDetector": ("pypi-",),
    "sendgrid.SendGridDetector": ("SG.",),
    "slack.SlackDetector": ("xox", "hooks.slack"),
    "square_oauth.SquareOAuthDetector": ("sq0csp", "EAAA"),
    "stripe.StripeDetector": ("k_live_",),
    "telegram_token.TelegramBotTokenDetector": (":AA",),
    "twilio.TwilioKeyDetector": ("AC", "SK"),
}
_OTHER_KEYS = (  # vendors' published formats that detect-secrets 1.5 does not have
    (("github_pat_",), re.compile(r"\bgithub_pat_[A-Za-z0-9_]{60,100}")),
    (("AIza",), re.compile(r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])")),
    (("GOCSPX-",), re.compile(r"\bGOCSPX-[A-Za-z0-9_-]{28}")),
    (("ya29.",), re.compile(r"\bya29\.[A-Za-z0-9_-]{30,}")),
    (("sk-",), re.compile(r"(?<![A-Za-z0-9])sk-(?:proj-|svcacct-|ant-|or-)?[A-Za-z0-9_-]{32,}")),
    (("k_test_",), re.compile(r"\b[rsp]k_(?:test|live)_[A-Za-z0-9]{16,}")),
    (("k_live_",), re.compile(r"\b[rsp]k_(?:test|live)_[A-Za-z0-9]{16,}")),
    (("whsec_",), re.compile(r"\bwhsec_[A-Za-z0-9]{24,}")),
    (("hf_",), re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    (("xapp-",), re.compile(r"\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+")),
    (("npm_",), re.compile(r"\bnpm_[A-Za-z0-9]{36}")),
    (("dop_v1_",), re.compile(r"\bdop_v1_[a-f0-9]{64}")),
    (("shpat_", "shpss_"), re.compile(r"\bshp(?:at|ss)_[a-fA-F0-9]{32}")),
    (("dapi",), re.compile(r"\bdapi[a-f0-9]{32}")),
)
_JWT = re.compile(r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")
_BEARER = re.compile(r"\b[Bb]earer\s+([A-Za-z0-9._~+/-]{20,}=*)")
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[\s\S]{0,16384}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\]*)"
)
_PUTTY = re.compile(r"PuTTY-User-Key-File-\d:[\s\S]{0,16384}?Private-MAC: [0-9a-f]+")
_URL = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@<>\"']{1,256}:([^\s/@<>\"']{1,256})@[^\s<>\"',;)]+"
)
_EXAMPLE_WORD = re.compile(
    r"\$?\{.*\}|<.*>|\*+|x+|\.+|pass(?:word)?|pw|secret|\[.*\]|%.*%", re.IGNORECASE
)
_KEY_WORDS = (
    r"(?:api|access|secret|auth|account|service|client|license|encryption|app)[ _-]?"
    r"(?:key|token|secret)|(?:api|zugriffs|zugangs)-?schlüssel"
    r"|clé (?:d['\u2019])?(?:api|accès)|clave (?:de )?(?:api|acceso)"
    r"|chiave (?:api|di accesso)|token|secret|credential"
)
_NAMED_KEY = re.compile(
    rf"(?:{_KEY_WORDS})s?[\"'`]?(?:\s*(?:is|ist|lautet|est|es|è|[:=]+>?)\s*|\s+)[\"'`]?"
    r"([A-Za-z0-9][A-Za-z0-9_+/.=~-]{15,})",
    re.IGNORECASE,
)
_PASSWORD = re.compile(
    r"(?:pass(?:word|wd|code|phrase|wort)|kennwort|mot de passe|contraseña|\bpwd|\bmdp|\bclave)s?"
    r"[\"'`]?(?:\s*[:=]+\s*|\s+(?:is now|is|ist|lautet|est|es|è|was|war)\s*:?\s+)[\"'`]?"
    r"([^\s\"'`<>,;]{6,64})",
    re.IGNORECASE,
)
SHORTEST_KEY = 20
"""Characters of the shortest key or token, with what is written around it."""

SECRET_WORDS = ("key", "token", "secret", "credential", "schlüssel", "clé", "clave", "chiave")
PASSWORD_WORDS = (
    *("password", "passwort", "passwd", "passcode", "passphrase", "kennwort", "mot de passe"),
    *("contraseña", "pwd", "mdp", "clave"),
)
"""Where the pattern of a password begins, in lower case."""


def find_private_keys(text: str) -> Iterator[Span]:
    """Find private keys, whole or cut off."""
    if "PRIVATE KEY" in text:
        for match in _PEM.finditer(text):
            yield Span(match.start(), match.start() + len(match.group().rstrip()), Kind.PRIVATE_KEY)
    if "PuTTY-User-Key-File" in text:
        for match in _PUTTY.finditer(text):
            yield Span(*match.span(), Kind.PRIVATE_KEY)


def find_url_credentials(text: str) -> Iterator[Span]:
    """Find URLs that hold a user and a password."""
    if "://" not in text or "@" not in text:
        return
    for match in _URL.finditer(text):
        if not _EXAMPLE_WORD.fullmatch(match[1]):
            end = match.end() - (len(match.group()) - len(match.group().rstrip(".!?")))
            yield Span(match.start(), end, Kind.URL_CREDENTIALS)


def find_tokens(text: str) -> Iterator[Span]:
    """Find JSON web tokens and bearer tokens."""
    if "eyJ" in text:
        for match in _JWT.finditer(text):
            yield Span(*match.span(), Kind.ACCESS_TOKEN)
    if "earer" in text:
        for match in _BEARER.finditer(text):
            if _is_random(match[1]):
                yield Span(*match.span(1), Kind.ACCESS_TOKEN)


def find_api_keys(text: str, lowered: str) -> Iterator[Span]:
    """Find keys by their vendors' formats, and random strings after words for a key."""
    for name, hints in _PLUGINS.items():
        if has_any(text, hints):
            for pattern in _patterns(name):
                yield from _bounded(pattern, text)
    for hints, pattern in _OTHER_KEYS:
        if has_any(text, hints):
            yield from _bounded(pattern, text)
    if has_any(lowered, SECRET_WORDS):
        for match in _NAMED_KEY.finditer(text):
            found = match[1].rstrip(".")
            if _is_random(found):
                yield Span(match.start(1), match.start(1) + len(found), Kind.API_KEY)


def _bounded(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    """Find whole words only: a library's pattern may match within a longer one."""
    for match in pattern.finditer(text):
        group = match.lastindex or 0  # of a pattern with context; a short one is a prefix
        start, end = match.span(group if len(match[group] or "") >= 16 else 0)
        is_part = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
        if start < end and not is_part and any(c.isdigit() for c in text[start:end]):
            yield Span(start, end, Kind.API_KEY)


@cache
def _patterns(plugin: str) -> tuple[re.Pattern[str], ...]:
    import importlib

    module, _, name = plugin.partition(".")
    detector = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)()
    return tuple(detector.denylist)


def find_passwords(text: str, lowered: str) -> Iterator[Span]:
    """Find what follows words for a password, where it has letters and a digit or a sign."""
    for word in PASSWORD_WORDS:
        at = lowered.find(word)
        while at >= 0:
            match = _PASSWORD.match(text, at)
            if match is not None and _is_password(match[1]):
                found = match[1].rstrip(".?)")
                yield Span(match.start(1), match.start(1) + len(found), Kind.PASSWORD)
            at = lowered.find(word, at + 1)


def _is_password(found: str) -> bool:
    found = found.rstrip(".?)")
    has_other = any(not c.isalpha() for c in found.strip(".-_*:"))
    has_letter = any(c.isalpha() for c in found)
    is_example = _EXAMPLE_WORD.fullmatch(found) is not None or "://" in found
    return len(found) >= 6 and has_other and has_letter and not is_example


def _is_random(text: str) -> bool:
    """Return whether a string is drawn by chance: digits among letters, and much entropy."""
    if not any(c.isdigit() for c in text) or not any(c.isalpha() for c in text):
        return False
    return _entropy(text) >= 3.2


def _entropy(text: str) -> float:
    """Return the Shannon entropy of the characters, in bits a character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)
