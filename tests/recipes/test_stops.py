"""Any stop signal ends a command cleanly and resumably; a second one ends it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from recipes import cli, stops
from tests.cli import assay_here

# the verb `init`, made to wait; it holds a file open that must be cleaned up behind it
WAIT = """
import sys, time
from pathlib import Path
from finetune import scratch
from recipes import cli, starter
def wait(*_):
    with scratch.beside(Path("here")) as made:
        made.touch()
        print("ready", flush=True)
        BODY
starter.write = wait
sys.argv = ["assay", "VERB", "qa"]
cli.main()
"""


@contextmanager
def waiting(
    folder: Path, body: str = "time.sleep(30)", before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    code = before + WAIT.replace("BODY", body).replace("VERB", "init")
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stop_signal_cleans_up_says_how_to_go_on_and_has_its_exit_code(
    tmp_path: Path, name: str
) -> None:
    number = signal.Signals[name]
    with waiting(tmp_path) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said == f"assay: interrupted ({name}); nothing is half-written; {stops._AGAIN}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_ends_it_at_once_with_its_children(tmp_path: Path) -> None:
    stubborn = """
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        try: print(child.pid, flush=True); time.sleep(60)
        finally: time.sleep(60)
"""
    with waiting(tmp_path, stubborn) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGHUP)  # with the first: one stop, as systemd sends it
        time.sleep(stops.ONE_STOP_SECONDS)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    _, alive = psutil.wait_procs([child], timeout=10)  # the kernel takes a moment
    assert alive == []


def test_a_signal_that_the_parent_ignores_stays_ignored(tmp_path: Path) -> None:
    nohup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with waiting(tmp_path, "time.sleep(1)", nohup) as process:
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=20)
    assert process.returncode != 128 + signal.SIGHUP


def test_a_signal_is_not_lost_where_python_drops_exceptions(tmp_path: Path) -> None:
    """An exception within __del__ is printed and forgotten; a stop must not be."""
    body = """
        class Slow:
            def __del__(self):
                print("deleting", flush=True)
                time.sleep(20)
        Slow()
        time.sleep(20)
"""
    with waiting(tmp_path, body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "deleting\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=15)
    assert process.returncode == 143
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_a_signal_within_eval_has_the_exit_code_of_any_other(tmp_path: Path) -> None:
    """As when it comes while typer evaluates the annotations of the verbs."""
    with waiting(tmp_path, 'eval("time.sleep(20)")') as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=15)
    assert process.returncode == 130, said


def test_a_signal_after_the_command_ended_shows_no_traceback(tmp_path: Path) -> None:
    at_exit = (
        "import atexit\natexit.register(lambda: print('ready', flush=True) or time.sleep(20))\n"
    )
    with waiting(tmp_path, "pass", at_exit) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            pass
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_whatever_a_library_makes_of_the_signal_the_command_was_interrupted(tmp_path: Path) -> None:
    body = """
        try: time.sleep(30)
        except BaseException: raise RuntimeError("a worker ended")
"""
    with waiting(tmp_path, body) as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert said.startswith("assay: interrupted (SIGTERM)")


@pytest.mark.parametrize("verb", ["check", "compare", "ship", "gate", "eval", "verify", "init"])
def test_only_verbs_that_train_speak_of_checkpoints(verb: str) -> None:
    said = stops.Stop(signal.SIGTERM).in_words(verb)
    assert "checkpoint" not in said
    assert "the same command" in said
    for trains in ("run", "train"):
        assert "last checkpoint" in stops.Stop(signal.SIGTERM).in_words(trains)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in stops.STOPS]
    hook = sys.unraisablehook
    with stops.heard():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in stops.STOPS] == before
    assert sys.unraisablehook is hook


FORKED = """
import os, sys, time
from recipes.check.workers import started
def work(rows):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece, beside another process
    time.sleep(60)
with started(work, 2000, workers=2) as results:
    list(results)
"""


def test_forked_workers_end_with_a_killed_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        workers = [psutil.Process(int(process.stdout.readline())) for _ in range(2)]
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux's kernel that ends the child")
@pytest.mark.parametrize("module", ["finetune.reload", "recipes.data.readers.workbook_worker"])
def test_a_child_that_may_never_return_ends_with_a_killed_parent(module: str) -> None:
    child = (
        f"from {module} import _end_with_parent as end; import time; end(); "
        "print(1, flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], "
        "stdout=subprocess.PIPE); p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        one = psutil.Process(int(process.stdout.readline()))
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs([one], timeout=10)
    assert alive == []


def test_a_signal_before_the_verb_begins_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsing(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise SystemExit(130) from None  # as typer does

    monkeypatch.setattr(cli, "app", parsing)
    done = assay_here("init", "qa", folder=tmp_path)
    assert done.code == 143
    assert "interrupted (SIGTERM)" in done.said
