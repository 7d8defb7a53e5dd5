"""A served folder: started on the loopback, asked, held against our engine, surely stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from finetune.errors import IntegrityError
from recipes.errors import InputError
from recipes.handover import server, smoke
from tests import tiny
from tests.cli import ROOT

ANSWERS = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"no json")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""
SILENT = "import time; print('loading', flush=True); time.sleep(60)"
DIES = "print('no such model', flush=True); raise SystemExit(3)"
WITH_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SILENT!r}])\n{ANSWERS}"
)


@pytest.fixture
def nobody_left() -> Iterator[None]:
    """No process outlives the test."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    yield
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert not left


def instead(monkeypatch: pytest.MonkeyPatch, child: str) -> None:
    monkeypatch.setattr(server, "_CHILD", child)


@pytest.mark.usefixtures("loopback", "nobody_left")
def test_a_server_ends_with_its_block_and_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instead(monkeypatch, WITH_CHILD)
    seen: list[psutil.Process] = []

    def is_broken_off() -> None:
        with server.served(tmp_path, dtype="x", timeout_seconds=30):
            seen.extend(psutil.Process().children(recursive=True))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        is_broken_off()
    assert len(seen) >= 2
    _, left = psutil.wait_procs(seen, timeout=10)
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.usefixtures("loopback", "nobody_left")
def test_a_server_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instead(monkeypatch, SILENT)
    with (
        pytest.raises(server.ServerFailed, match=r"not up in time; it last wrote:\n  loading"),
        server.served(tmp_path, dtype="x", timeout_seconds=1),
    ):
        pass


@pytest.mark.usefixtures("loopback", "nobody_left")
def test_a_server_that_dies_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    instead(monkeypatch, DIES)
    with (
        pytest.raises(server.ServerFailed, match=r"ended with code 3; .*\n  no such model"),
        server.served(tmp_path, dtype="x", timeout_seconds=30),
    ):
        pass


@pytest.mark.usefixtures("loopback", "nobody_left")
def test_an_answer_that_is_no_json_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    instead(monkeypatch, ANSWERS)
    with (
        pytest.raises(server.ServerFailed, match="no JSON"),
        server.served(tmp_path, dtype="x", timeout_seconds=30) as port,
    ):
        server.post(port, "/v1/chat/completions", {}, timeout_seconds=5)


KILLED = """
import sys
from pathlib import Path
from recipes.handover import server
head, tail = server._CHILD.split("from transformers")
server._CHILD = head + "import os; print(os.getpid(), flush=True)" + sys.argv[1]
with server.served(Path("."), dtype="x", timeout_seconds=60) as port:
    print(port, flush=True)
    import time; time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
def test_a_server_does_not_outlive_a_process_that_was_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"\nfrom pathlib import Path; Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
    started = subprocess.Popen(
        [sys.executable, "-c", KILLED, child + ANSWERS],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    with started:
        assert started.stdout is not None
        assert started.stdout.readline()  # it is up
        served = psutil.Process(int(pid_file.read_text()))
        started.send_signal(signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        served.wait(timeout=10)
    assert not served.is_running() or served.status() == psutil.STATUS_ZOMBIE


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "NEEDS", ("a_package_that_nobody_has",))
    with (
        pytest.raises(InputError, match=r"needs a_package_that_nobody_has: pip install"),
        server.served(tmp_path, dtype="x", timeout_seconds=1),
    ):
        pass


def test_a_folder_without_a_template_cannot_be_asked(tmp_path: Path) -> None:
    folder = tiny.make_base(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        smoke.smoke(folder)


@contextlib.contextmanager
def nothing_served(_folder: Path, *, dtype: str, timeout_seconds: float) -> Iterator[int]:
    del dtype, timeout_seconds
    yield 0


def test_an_answer_that_was_not_evaluated_fails(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "served", nothing_served)
    monkeypatch.setattr(smoke, "_ask", lambda *_: "something else")
    with pytest.raises(IntegrityError, match="'something else', and evaluated it answers"):
        smoke.smoke(tiny_base)


def test_a_completion_without_content_fails(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "served", nothing_served)
    monkeypatch.setattr(server, "post", lambda *_, **__: {"choices": []})
    with pytest.raises(IntegrityError, match="no chat completion"):
        smoke.smoke(tiny_base)


@pytest.mark.slow
@pytest.mark.usefixtures("loopback", "nobody_left")
def test_transformers_serve_answers_as_our_engine(tiny_base: Path) -> None:
    pytest.importorskip("openai", reason="transformers serve needs it")
    done = smoke.smoke(tiny_base, timeout_seconds=300)
    assert done.num_requests == len(smoke.QUESTIONS)
    assert done.num_tokens > 0
    assert done.engine.startswith("transformers serve")


@pytest.fixture
def classifier(tmp_path: Path, tiny_base: Path) -> Path:
    import torch

    base = tiny.load_base(tiny_base, labels=tiny.LABELS)
    folder = tmp_path / "classifier"
    base.model.to(torch.bfloat16).save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("nobody_left")
def test_a_classifier_is_asked_in_a_process_of_its_own(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    done = smoke.smoke(classifier, timeout_seconds=300)
    assert 0 < done.num_seconds <= time.monotonic() - started
    assert done.max_difference <= smoke.SAME_PROBABILITY
    assert done.num_tokens == 0
    shifted = smoke._PIPELINE.replace('s["score"]', '1 - s["score"]')
    monkeypatch.setattr(smoke, "_PIPELINE", shifted)
    with pytest.raises(IntegrityError, match="differ by up to"):
        smoke.smoke(classifier, timeout_seconds=300)
