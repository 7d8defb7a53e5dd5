"""A whole run on machines that lack what most have: for real, in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import ROOT, write_recipe

pytestmark = pytest.mark.slow

STRANGER = "54321"
"""A user that no system lists, as some clusters give to a container."""

ASSAY = f"{sys.executable} -m recipes.cli"
RUN = f"cd /mnt/w && {ASSAY} doctor && {ASSAY} check recipe.yaml && {ASSAY} run recipe.yaml"

LACKING = {
    "proc": f"mount -t tmpfs none /proc; {RUN}",
    "a listed user with a home": (
        "chmod -R a+rwX /mnt/w; {reach}; cd /mnt;"
        f" exec setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups"
        f" env -u HOME -u USER -u LOGNAME sh -c '{RUN}'"
    ),
    "a home that can be written": (
        f"mkdir /mnt/home; mount -t tmpfs -o ro none /mnt/home; export HOME=/mnt/home; {RUN}"
    ),
    "a root that can be written": f"mount -o remount,ro,bind /; export TMPDIR=/mnt; {RUN}",
    "shared memory": f"mount -t tmpfs -o ro none /dev/shm; {RUN}",
    "temporary files": (
        "for one in /tmp /var/tmp /usr/tmp; do test -d $one && mount -t tmpfs -o ro none $one;"
        f" done; export TMPDIR=/nowhere; {RUN}"
    ),
}


def reach_python() -> str:
    """Return commands by which a stranger can read the interpreter, if a folder above is closed."""
    base = Path(sys.base_prefix)
    closed = [one for one in (base, *base.parents) if not one.stat().st_mode & 0o001]
    if not closed:
        return "true"
    if ROOT.is_relative_to(closed[-1]):
        pytest.skip("the checkout lies in a folder that is closed to others")
    return (
        f"mkdir /mnt/python; mount --bind {base} /mnt/python; "
        f"mount -t tmpfs -o mode=755 none {closed[-1]}; mkdir -p {base}; "
        f"mount --bind /mnt/python {base}"
    )


def alone(commands: str, folder: Path, **options: str) -> subprocess.CompletedProcess[str]:
    """Run shell commands where mounts are nobody else's, with a copy of a folder as /mnt/w."""
    begin = f"mount --make-rprivate /; mount -t tmpfs -o mode=777 none /mnt; cp -r {folder} /mnt/w"
    # the last is set by torch in this process, to a folder below this one's TMPDIR
    hidden = ("ASSAY_CACHE", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{begin}; {commands}"],
        env=kept | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | options,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("unshare") is None or os.getuid() != 0:
        pytest.skip("mounts of one's own need unshare and root")
    if alone("true", tmp_path_factory.mktemp("empty")).returncode:
        pytest.skip("this container allows no mounts")


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("lacking", LACKING)
def test_a_run_passes_without(lacking: str, tmp_path: Path, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    write_recipe(tmp_path, "classification", Path("base"))
    commands = LACKING[lacking]
    if "{reach}" in commands:
        commands = commands.replace("{reach}", reach_python())
    done = alone(commands, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout
    assert "Traceback" not in done.stderr
    assert "atplotlib" not in done.stderr


QUOTA = "from finetune import cores; print(cores.cpu_quota(), cores.usable_cores())"


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of version 1 that is granted one core, with a group in it."""
    group = Path("/sys/fs/cgroup/cpu") / f"assay-test-{os.getpid()}"
    try:
        (group / "inner").mkdir(parents=True)
        (group / "cpu.cfs_period_us").write_text("100000", encoding="utf-8")
        (group / "cpu.cfs_quota_us").write_text("100000", encoding="utf-8")
    except OSError:
        pytest.skip("this machine gives no control group of version 1")
    yield group
    (group / "inner").rmdir()
    group.rmdir()


def test_the_quota_of_a_group_around_a_process_is_found(group: Path) -> None:
    join = f"echo $$ > {group}/inner/cgroup.procs; exec {sys.executable} -c '{QUOTA}'"
    done = subprocess.run(
        ["sh", "-c", join],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == ["1.0", "1"], done.stderr
