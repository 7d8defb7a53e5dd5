"""Data sets of the Hugging Face Hub, at a pinned revision.

``hub:ORG/NAME@REVISION`` names the split ``train`` of the default configuration, and
``hub:ORG/NAME@REVISION/SPLIT?config=NAME`` another one. The repository's files are fetched once
into the Hub's cache (all of its data files: name them by ``?files=GLOB`` where it is large) and
read like any others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import parse_qsl

from recipes.data.readers.kinds import KINDS, is_known
from recipes.errors import InputError, nearest

PREFIX = "hub:"
_FORM = "hub:ORG/NAME@REVISION, with /SPLIT and ?config=NAME or ?files=GLOB where needed"
_REFERENCE = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[^/?]*)(?:/(?P<split>[\w.-]+))?(?:\?(?P<options>.*))?"
)


@dataclass(frozen=True)
class HubSplit:
    """One split of a data set at one revision."""

    name: str
    """``ORG/NAME``."""

    revision: str
    """Commit of 40 hexadecimal digits."""

    split: str = "train"
    config: str | None = None
    files: str | None = None
    """Glob over the repository's files, in place of its own splits."""


def parse_reference(text: str) -> HubSplit:
    """Read a reference.

    Raises:
        InputError: if it is not of the form above, or its revision is not pinned.

    Example:
        >>> parse_reference(f"hub:acme/tickets@{'0' * 40}/test?config=en").split
        'test'
    """
    found = _REFERENCE.fullmatch(text.removeprefix(PREFIX))
    if found is None:
        raise InputError(f"data: {text} is not of the form {_FORM}")
    if not re.fullmatch("[0-9a-f]{40}", found["revision"]):
        raise InputError(
            f"data: {text}: the revision must be a commit of 40 hexadecimal digits, so that the "
            "rows stay the same; it is on the data set's page under Files, History"
        )
    options = dict(parse_qsl(found["options"] or ""))
    for option in options:
        if option not in ("config", "split", "files"):
            raise InputError(f"data: {text}: unknown option {option!r}; wanted {_FORM}")
    split = found["split"] or options.get("split", "train")
    return HubSplit(
        found["name"], found["revision"], split, options.get("config"), options.get("files")
    )


def files_of(text: str) -> list[Path]:
    """Return the files of a split, fetched if they are not in the cache.

    Raises:
        InputError: if the reference is wrong, the data set cannot be fetched, or lacks the split.
    """
    wanted = parse_reference(text)
    folder = fetch(wanted)
    if wanted.files is not None:
        below = sorted(p for p in folder.rglob("*") if p.is_file() and is_known(p))
        files = [p for p in below if fnmatch(p.relative_to(folder).as_posix(), wanted.files)]
    else:
        files = _files_of_split(text, wanted, folder)
    if not files:
        raise InputError(f"data: {text} names no files that can be read")
    return files


def fetch(wanted: HubSplit) -> Path:
    """Return the folder that holds a data set's files, from the cache or the network.

    Raises:
        InputError: if it is in neither.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    ends = [f"*.{kind}{end}" for kind in KINDS for end in ("", ".gz", ".zst", ".bz2", ".xz")]
    patterns = ["README.md", *([wanted.files] if wanted.files is not None else ends)]
    try:
        return Path(
            snapshot_download(
                wanted.name,
                repo_type="dataset",
                revision=wanted.revision,
                allow_patterns=patterns,
            )
        )
    except LocalEntryNotFoundError:
        raise InputError(
            f"data: {wanted.name} at {wanted.revision} is not in the cache, and the Hub cannot be "
            "reached (is HF_HUB_OFFLINE set?); fetch it once where there is a network, with: "
            f"hf download {wanted.name} --repo-type dataset --revision {wanted.revision}"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        why = type(error).__name__
        raise InputError(
            f"data: {wanted.name} at {wanted.revision} cannot be fetched ({why}); see that it "
            "exists and that you may read it (hf auth login)"
        ) from None


def _files_of_split(text: str, wanted: HubSplit, folder: Path) -> list[Path]:
    """Return the files of a split as the data set's own card, or else their names, define it."""
    from datasets import load_dataset_builder

    try:
        builder = load_dataset_builder(str(folder), name=wanted.config)
        splits = {str(name): list(files) for name, files in builder.config.data_files.items()}
    except Exception as error:  # datasets raises many kinds, whose messages are for its callers
        first = str(error).partition("\n")[0][:300]
        raise InputError(f"data: {text}: its splits cannot be determined: {first}") from None
    if wanted.split not in splits:
        hint = nearest(wanted.split, splits) or f"it has {', '.join(splits)}"
        raise InputError(f"data: {text}: there is no split {wanted.split!r}; {hint}")
    return [Path(file) for file in splits[wanted.split]]
