"""Imitations of macOS and Windows for this program's own modules; libraries see the real system.

An import statement in our code is given a stand-in for each module that differs: what the other
system lacks is missing, and `sys.platform`, `os.name` and the like say what they say there. On
Windows the whole process also minds how files are held there: none that is open or mapped is
removed, replaced or in a folder that is moved; nothing is renamed onto what is there; a folder
cannot be opened, links cannot be made, and some names are refused.

What an imitation cannot show: libraries' own behaviour there, drive letters and backslashes as the
system takes them, and the encoding of a console.

As a script it runs several commands in one process: SYSTEM, then JSON of their arguments on
standard input; it prints a JSON line ``{"code", "out", "err"}`` for each.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib.abc
import importlib.machinery
import io
import json
import os
import re
import shutil
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tests.test_portability import MODULES, NAMES

System = Literal["darwin", "win32"]

PACKAGES = ("eval", "finetune", "privacy", "recipes")
_MAC_LACKS = {
    "os": {"sched_getaffinity", "sched_setaffinity", "sched_yield", "posix_fadvise", "splice"}
    | {"copy_file_range", "eventfd", "pidfd_open", "getrandom", "O_DIRECT", "O_TMPFILE"}
}
REFUSED = re.compile(r'[<>:"|?*\x00-\x1f\\]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.I)
"""What no part of a path may have on Windows."""


class StandIn(types.ModuleType):
    """A module of another system: the real one but for some names."""

    def __init__(self, real: Any, missing: set[str], others: Mapping[str, Any]) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(others)
        self._real, self._missing = real, missing

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r}")
        return getattr(self._real, name)


def stand_ins(system: System) -> dict[str, StandIn]:
    """Return the modules that our code is given in the place of the real ones."""
    import ctypes
    import multiprocessing
    import platform
    import signal

    import psutil

    def no_library(name: str | None, *rest: Any) -> Any:
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        return ctypes.CDLL(name, *rest)

    class Process(psutil.Process):
        def memory_info(self) -> Any:
            return types.SimpleNamespace(peak_wset=super().memory_info().rss)

    is_windows = system == "win32"
    lacking = {n: set(names) for n, names in NAMES.items()} if is_windows else _MAC_LACKS
    called = {"win32": "Windows", "darwin": "Darwin"}[system]
    others: dict[str, tuple[Any, dict[str, Any]]] = {
        "sys": (sys, {"platform": system}),
        "platform": (platform, {"system": lambda: called}),
        "os": (os, {"name": "nt", "O_BINARY": 0} if is_windows else {}),
        "signal": (signal, {}),
    }
    if is_windows:
        starts = {"get_all_start_methods": lambda: ["spawn"]}
        others |= {
            "multiprocessing": (multiprocessing, starts),
            "ctypes": (ctypes, {"CDLL": no_library}),
            "psutil": (psutil, {"Process": Process}),
        }
    return {
        name: StandIn(real, lacking.get(name, set()) - own.keys(), own)
        for name, (real, own) in others.items()
    }


class Imitation(importlib.abc.MetaPathFinder):
    """Finds our modules, and gives each the import statement of another system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.given = stand_ins(system)
        lacking = MODULES if system == "win32" else {"_winapi", "msvcrt", "nt", "winreg"}
        self.builtins = {**vars(builtins), "__import__": self._importing(lacking)}

    def _importing(self, lacking: set[str]) -> Callable[..., Any]:
        def import_(name: str, *rest: Any, **options: Any) -> Any:
            if name.partition(".")[0] in lacking:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            found = builtins.__import__(name, *rest, **options)
            return self.given.get(found.__name__, found)

        return import_

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        """Return our module's spec, which executes it under the imitation."""
        if name.partition(".")[0] not in PACKAGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader = spec.loader if spec else None
        if isinstance(loader, importlib.machinery.SourceFileLoader):
            execute = loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                module.__dict__["__builtins__"] = self.builtins
                execute(module)

            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def fresh_modules(system: System) -> Iterator[None]:
    """Import our modules anew under an imitation, for as long as this lasts."""
    before = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in PACKAGES}
    finder = Imitation(system)
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.partition(".")[0] in PACKAGES]:
            del sys.modules[name]  # those of the other system
        sys.modules.update(before)


def hold_files_as_windows_does(below: Path) -> None:
    """Let this whole process meet what Windows refuses, in one folder; there is no way back."""
    root = str(below.resolve())

    def inside(path: Any) -> str | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None  # a descriptor
        whole = str(Path(os.fsdecode(path)).absolute())
        return whole if whole.startswith(root + os.sep) else None

    def refuse_held(path: Any) -> None:
        whole = inside(path)
        if whole is None or ".filelock-probe-" in whole:  # what filelock tries out on Unix alone
            return
        for one in _held():
            if one == whole or one.startswith(whole + os.sep):
                raise PermissionError(errno.EACCES, f"in use (WinError 32), by {one}", whole)

    def wrap(name: str, refuse: Callable[..., None]) -> None:
        real = getattr(os, name)

        def wrapped(*paths: Any, **options: Any) -> Any:
            refuse(*paths)
            return real(*paths, **options)

        setattr(os, name, wrapped)

    def refuse_rename(old: Any, new: Any) -> None:
        if inside(new) and os.path.lexists(new):
            raise FileExistsError(
                errno.EEXIST, "WinError 183", os.fsdecode(old), None, os.fsdecode(new)
            )
        refuse_held(old)

    def refuse_replace(old: Any, new: Any) -> None:
        if inside(new) and Path(os.fsdecode(new)).is_dir():
            raise PermissionError(
                errno.EACCES, "WinError 5", os.fsdecode(old), None, os.fsdecode(new)
            )
        refuse_held(old)
        refuse_held(new)

    def refuse_link(_: Any, link: Any, *__: Any) -> None:
        if inside(link):
            raise OSError(errno.EPERM, "a privilege is missing (WinError 1314)", os.fsdecode(link))

    for name in ("unlink", "remove", "rmdir"):
        wrap(name, refuse_held)
    wrap("rename", refuse_rename)
    wrap("replace", refuse_replace)
    wrap("symlink", refuse_link)
    shutil._use_fd_functions = False  # type: ignore[attr-defined] # it removes by name there

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.mkdir"):
            return
        path = inside(arguments[0])
        if path is None:
            return
        is_made = event == "os.mkdir" or bool(arguments[2] & os.O_CREAT)
        parts = Path(path).relative_to(root).parts
        if is_made and any(REFUSED.search(part) for part in parts):
            raise OSError(errno.EINVAL, "no such name on Windows", path)
        if event == "open" and Path(path).is_dir():
            raise PermissionError(errno.EACCES, "a folder cannot be opened on Windows", path)

    sys.addaudithook(audit)


def _held() -> set[str]:
    """Return the files that this process has open or mapped."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(descriptor.readlink()))
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    found |= {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    return found


def run_here(arguments: Sequence[str]) -> dict[str, Any]:
    """Run a command in this process; what nobody expected is exit code 1 and a traceback."""
    from recipes import cli

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["assay", *arguments]
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as done:
            code = done.code
        except BaseException:
            traceback.print_exc()
            code = 1
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def main() -> None:
    """Run the commands on standard input under an imitation, or under none for ``linux``."""
    system, commands = sys.argv[1], json.load(sys.stdin)
    if system in ("darwin", "win32"):
        sys.meta_path.insert(0, Imitation(system))  # type: ignore[arg-type]
    if system == "win32":
        hold_files_as_windows_does(Path.cwd())
    for arguments in commands:
        sys.stdout.write(json.dumps(run_here(arguments)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
