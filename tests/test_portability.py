"""What would keep a module from starting, or from writing the same bytes, on macOS or Windows.

The slow test lets mypy look for every name that one of the systems lacks; the quick ones look for
those that have been met, for files whose encoding or line ends depend on the system, and for paths
of Linux.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, SOURCES, trees

MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline",
    "resource", "spwd", "syslog", "termios", "tty", "_winapi", "msvcrt", "nt", "winreg", "winsound",
}  # fmt: skip
NAMES = {
    "os": {
        "EX_USAGE", "O_BINARY", "O_CLOEXEC", "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_SYNC",
        "O_TMPFILE", "WEXITSTATUS", "chown", "chroot", "confstr", "copy_file_range", "eventfd",
        "fchmod", "fchown", "fdatasync", "fork", "forkpty", "fstatvfs", "geteuid", "getgid",
        "getloadavg", "getpgid", "getpgrp", "getpriority", "getrandom", "getsid", "getuid",
        "initgroups", "killpg", "lchown", "listxattr", "mkfifo", "nice", "pidfd_open",
        "posix_fadvise", "posix_fallocate", "posix_spawn", "preadv", "pwrite",
        "sched_getaffinity", "sched_getscheduler", "sched_setaffinity", "sched_yield",
        "sendfile", "setpgid", "setpriority", "setsid", "setuid", "splice", "startfile",
        "statvfs", "sync", "sysconf", "tcgetpgrp", "ttyname", "uname", "wait3", "wait4",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1",
        "SIGUSR2", "SIGXCPU", "alarm", "pthread_sigmask", "setitimer", "sigwait",
    },
    "socket": {
        "AF_UNIX", "socketpair",
    },
    "time": {
        "clock_settime", "tzset",
    },
    "psutil": {
        "RLIMIT_AS", "sensors_temperatures",
    },
}  # fmt: skip
GUARDS = ("sys.platform", "os.name", "hasattr(")
CAUGHT = ("ImportError", "ModuleNotFoundError", "AttributeError")
OURS = ("files.write_text",)


@functools.cache
def parsed() -> list[tuple[str, ast.AST]]:
    return list(trees(SOURCES))


def parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def is_guard(node: ast.AST | None) -> bool:
    return node is not None and any(guard in ast.unparse(node) for guard in GUARDS)


def is_guarded(node: ast.AST, above: dict[ast.AST, ast.AST]) -> bool:
    """Return whether a node is reached only where something was asked of the system before."""
    while node in above:
        child, node = node, above[node]
        if isinstance(node, ast.If | ast.IfExp) and child is not node.test and is_guard(node.test):
            return True
        if isinstance(node, ast.BoolOp) and is_guard(node.values[0]):  # hasattr(os, "x") and os.x
            return True
        if isinstance(node, ast.Try) and child in node.body:
            caught = [ast.unparse(handler.type) for handler in node.handlers if handler.type]
            if any(name in one for one in caught for name in CAUGHT):
                return True
        body = getattr(node, "body", None)
        if isinstance(body, list) and child in body:  # if sys.platform == ...: return
            before = [one for one in body[: body.index(child)] if isinstance(one, ast.If)]
            if any(is_guard(one.test) and isinstance(one.body[-1], ast.Return) for one in before):
                return True
    return False


def names_of_one_system(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = NAMES.get(module, set())
            found = [f"{module}.{a.name}" for a in node.names if a.name in names]
            found += [module] if module in MODULES else []
        elif isinstance(node, ast.Attribute):
            module = ast.unparse(node.value)
            found = [f"{module}.{node.attr}"] if node.attr in NAMES.get(module, set()) else []
        yield from ((node, name) for name in found)


def unguarded(tree: ast.AST) -> list[str]:
    above = parents(tree)
    return [name for node, name in names_of_one_system(tree) if not is_guarded(node, above)]


def test_no_module_needs_what_one_system_lacks() -> None:
    found = [f"{name}: {one}" for name, tree in parsed() for one in unguarded(tree)]
    assert not found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import fcntl", ["fcntl"]),
        ("from resource import getrusage", ["resource"]),
        ("def f():\n import pwd", ["pwd"]),
        ("import os\nos.fork()", ["os.fork"]),
        ("from os import getuid", ["os.getuid"]),
        ("signal.SIGKILL if x else 0", ["signal.SIGKILL"]),
        ("if sys.platform == 'linux': os.fork()", []),
        ("try:\n import fcntl\nexcept ImportError:\n fcntl = None", []),
        ("try:\n import fcntl\nexcept OSError: pass", ["fcntl"]),
        ("hasattr(os, 'fork') and os.fork()", []),
        ("def f():\n if os.name != 'posix':\n  return\n os.getuid()", []),
        ("def f():\n os.getuid()\n if os.name != 'posix':\n  return", ["os.getuid"]),
    ],
)
def test_the_search_for_such_names_sees_whether_they_are_guarded(
    source: str, names: list[str]
) -> None:
    assert unguarded(ast.parse(source)) == names


def text_files_by_the_systems_habits(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield calls that read or write text and leave the encoding or the line ends to the system."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        values = [getattr(one, "value", ...) for one in node.args]
        if name in ("read_text", "write_text") and "." in called:
            is_written = name == "write_text"
            has_encoding = "encoding" in keywords or len(values) > is_written
        elif called in ("open", "io.open", "os.fdopen") or name.endswith("TemporaryFile"):
            place = 0 if name.endswith("TemporaryFile") else 1
            mode = _mode(values[place:], keywords, "w+b" if place == 0 else "r")
            if "b" in mode:
                continue
            is_written, has_encoding = set(mode) & set("wax+") != set(), "encoding" in keywords
        elif name == "open" and (not values or isinstance(values[0], str)):  # of a path
            mode = _mode(values, keywords, "r")
            if "b" in mode or not set(mode) <= set("rwaxt+"):
                continue
            is_written, has_encoding = set(mode) & set("wax+") != set(), "encoding" in keywords
        elif getattr(keywords.get("text"), "value", None) is True:  # a child's output
            is_written, has_encoding = False, "encoding" in keywords
        else:
            continue
        if not has_encoding:
            yield node.lineno, f"{called} without encoding"
        if is_written and "newline" not in keywords and called not in OURS:
            yield node.lineno, f"{called} without newline"


def _mode(values: list[object], keywords: dict[str | None, ast.expr], default: str) -> str:
    given = keywords.get("mode")
    found = getattr(given, "value", None) if given else (values[0] if values else default)
    return found if isinstance(found, str) else default


def test_text_is_read_and_written_alike_on_every_system() -> None:
    """What is hashed must not have other line ends on Windows, nor another encoding."""
    found = [
        f"{name}:{line} {what}"
        for name, tree in parsed()
        for line, what in text_files_by_the_systems_habits(tree)
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("path.read_text()", 1),
        ("path.read_text('utf-8')", 0),
        ("path.write_text(text)", 2),
        ("path.write_text(text, encoding='utf-8')", 1),
        ("path.open()", 1),
        ("path.open('rb')", 0),
        ("path.open('a', encoding='utf-8')", 1),
        ("gzip.open(path)", 0),
        ("open(path)", 1),
        ("os.fdopen(number, 'w', encoding='utf-8', newline='')", 0),
        ("tempfile.NamedTemporaryFile('w', dir=folder)", 2),
        ("tempfile.TemporaryFile()", 0),
        ("subprocess.run(command, text=True)", 1),
    ],
)
def test_the_search_for_such_files_finds_them(source: str, count: int) -> None:
    assert len(list(text_files_by_the_systems_habits(ast.parse(source)))) == count


def test_paths_of_linux_are_read_in_two_modules_only() -> None:
    """Each of these goes on where there is no such file."""
    found = {
        name
        for name, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.lstrip("/").startswith(("proc/", "sys/fs", "dev/"))
    }
    assert found == {"finetune/cores.py", "finetune/machine.py"}


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_types_hold_on_other_systems(platform: str, tmp_path: Path) -> None:
    """mypy knows of each name of the standard library which system has it."""
    command = [sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
