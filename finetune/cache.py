"""Where this program keeps what it made once: bases from other formats, hashes of large files.

This module needs no torch.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from finetune.errors import InputError

CACHE = "ASSAY_CACHE"
"""The environment variable that names the cache's folder."""


class NoCache(InputError):
    """There is no folder for the cache, or it cannot be written."""


def cache_folder() -> Path:
    """Return this program's cache: ``$ASSAY_CACHE``, else ``$XDG_CACHE_HOME/assay``.

    Raises:
        NoCache: if neither is set, and the user has no home folder.
    """
    if explicit := os.environ.get(CACHE):
        return Path(explicit)
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a user whom the system does not list
        raise NoCache(
            f"no folder is known for the cache, as this user has no home folder; name one by the "
            f"environment variable {CACHE}"
        ) from None
    return Path(caches) / "assay"


def prepare_to_cache(made: Path) -> None:
    """Make the folder in the cache that ``made`` will be in, and see that it can be written.

    Raises:
        NoCache: if it cannot.
    """
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=made.parent):
            pass
    except OSError as error:
        raise NoCache(
            f"the cache cannot be written ({error.strerror}: {made.parent}), and this base needs "
            f"it once; name a folder with room by the environment variable {CACHE}"
        ) from None
