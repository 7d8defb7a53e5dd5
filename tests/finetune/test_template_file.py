from __future__ import annotations

from pathlib import Path

import pytest

from finetune import checkpoint
from finetune.adapter_files import template_digest, template_of
from finetune.config import CheckpointConfig
from finetune.errors import InputError
from tests import thinking, tiny


def config(base: Path, template: str | None) -> CheckpointConfig:
    return CheckpointConfig(checkpoint=str(base), quantization="none", chat_template=template)


def test_a_base_with_another_template_is_the_base_with_an_identity_of_its_own(
    tiny_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.jinja").write_text(thinking.HYBRID)
    plain = checkpoint.resolve(config(tiny_base, None))
    folder = checkpoint.resolve(config(tiny_base, "own.jinja"), tmp_path)
    assert checkpoint.load_tokenizer(folder).chat_template == thinking.HYBRID
    assert checkpoint.load_tokenizer(plain).chat_template == tiny.CHATML
    assert checkpoint.identity(folder) != checkpoint.identity(plain)
    assert checkpoint.resolve(config(tiny_base, "own.jinja"), tmp_path) == folder
    loaded = checkpoint.load(folder, quantization="none")
    assert loaded.identity == checkpoint.identity(folder)
    (tmp_path / "own.jinja").write_text(thinking.OPENED)
    changed = checkpoint.resolve(config(tiny_base, "own.jinja"), tmp_path)
    assert checkpoint.identity(changed) != checkpoint.identity(folder)


def test_a_template_goes_where_the_tokenizer_is_copied(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(thinking.HYBRID)
    out = tmp_path / "out"
    out.mkdir()
    checkpoint.copy_tokenizer(
        checkpoint.resolve(config(tiny_base, "own.jinja"), tmp_path), out, prompt=None
    )
    assert template_of(out) == template_digest(thinking.HYBRID)
    assert not (out / "chat_template.jinja").is_symlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a\n{% if %}", r"own\.jinja:2 is not a Jinja template"),
        (b"x" * 1_000_001, "has more than 1000000 bytes"),
    ],
)
def test_a_file_that_is_no_template_is_refused(
    tiny_base: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "own.jinja").write_bytes(content)
    with pytest.raises(InputError, match=f"base.chat_template: .*{message}"):
        checkpoint.resolve(config(tiny_base, "own.jinja"), tmp_path)


def test_a_template_may_mark_what_is_generated_or_refuse_a_chat(
    tiny_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'user' %}{{ raise_exception('no') }}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    )
    assert checkpoint.resolve(config(tiny_base, "own.jinja"), tmp_path).is_dir()
