"""A base with another chat template: a folder of links to its files, with the template beside them.

As a folder of its own, the base has an identity of its own, because a chat template is part of it.
So training, evaluation, merge and proof take the template along as they take the base's own, and a
template that was changed since is noticed as another base is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import jinja2

from finetune import scratch as scratches
from finetune.cache import cache_folder, prepare_to_cache
from finetune.errors import InputError

NAME = "chat_template.jinja"

_MOST_BYTES = 1_000_000
_HAS_LINKS = os.name == "posix"  # most users of Windows may make none


def with_template(folder: Path, path: Path) -> Path:
    """Return a folder in the cache with a checkpoint's files and the chat template of a file.

    It is written under a temporary name and renamed, so it is either absent or whole.

    Args:
        folder: of a checkpoint.
        path: of a Jinja template, as tokenizers have them.

    Raises:
        InputError: if the file is missing, is not UTF-8, or is not a Jinja template.
    """
    text = _read(path)
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != NAME)
    key: list[object] = [str(folder.resolve()), [file.name for file in files], text]
    if not _HAS_LINKS:  # a copy does not show that the base was changed
        key.append([(stat.st_size, stat.st_mtime_ns) for stat in (f.stat() for f in files)])
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    made = cache_folder() / "bases" / f"{folder.name}-{digest[:16]}"
    if (made / NAME).is_file():
        return made
    prepare_to_cache(made)
    with scratches.beside(made) as scratch:
        scratch.mkdir()
        for file in files:
            _stand_in(scratch / file.name, file.resolve())
        (scratch / NAME).write_text(text, encoding="utf-8", newline="")
        try:
            scratch.rename(made)
        except OSError:
            if not (made / NAME).is_file():  # else another process was first
                raise
    return made


def _stand_in(link: Path, file: Path) -> None:
    if _HAS_LINKS:
        link.symlink_to(file)
    else:
        shutil.copyfile(file, link)


def _read(path: Path) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    if not path.is_file():
        raise InputError(f"base.chat_template: there is no file {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"base.chat_template: {path} has more than {_MOST_BYTES} bytes")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"base.chat_template: {path} is not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    try:
        render_jinja_template([[{"role": "user", "content": "Hello."}]], chat_template=text)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(
            f"base.chat_template: {path}:{error.lineno} is not a Jinja template: {error.message}"
        ) from None
    except (jinja2.TemplateError, TypeError, ValueError):
        pass  # it may refuse this chat; what it makes of the rows is checked with them
    return text
