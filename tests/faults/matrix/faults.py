"""One try of a cell: what is done to a real command, and to the files that it works on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

from tests.faults.matrix import results
from tests.faults.matrix.bench import Bench, Reference
from tests.faults.matrix.cells import RECIPE, ROWS, RUN, Fault, Row
from tests.faults.matrix.child import flip_a_bit
from tests.faults.matrix.processes import Running
from tests.faults.matrix.verdicts import (
    QUIET_PIPE,
    STOPPED,
    Outcome,
    Verdict,
    departures,
    failed,
    last_line,
    names,
    of_refusal,
    same_in_the_end,
    scratch_in,
    survived,
    why_unclean,
)

SIGNALS = {
    Fault.KILL: signal.SIGKILL,
    Fault.SIGTERM: signal.SIGTERM,
    Fault.SIGINT: signal.SIGINT,
}
WORK_ON_ARCHIVES = ("check", "plan", "compare", "gate", "ship", "verify", "audit")
"""Verbs that must not need to write into what they read."""

FRESH_SECONDS = 3.0
"""How much longer a process of its own takes, for its imports."""


def attempt(bench: Bench, row: Row, fault: Fault, detail: str) -> Verdict:
    """Try a command under a fault; ``detail`` is one of `cells.details`."""
    match fault:
        case Fault.KILL | Fault.SIGTERM | Fault.SIGINT:
            return _interrupt(bench, row, SIGNALS[fault], detail)
        case Fault.FULL_DISK:
            return _fill_disk(bench, row, int(detail.split()[0]))
        case Fault.MEMORY:
            return _limit_memory(bench, row, int(detail.split()[0]))
        case Fault.READ_ONLY:
            return _forbid_writing(bench, row, detail)
        case Fault.SECOND:
            return _run_two(bench, row, float(detail.split()[-1]))
        case Fault.DURING:
            return _change_during(bench, row, *detail.split(" at operation "))
        case Fault.CACHE:
            return _lock_cache(bench, row)
        case Fault.STREAMS:
            return _close_stream(bench, row, detail)
        case _:
            return _change_before(bench, row, fault, detail)


def _interrupt(bench: Bench, row: Row, number: signal.Signals, detail: str) -> Verdict:
    """Stop a command by a signal; then the same command goes on to the same end."""
    reference = bench.reference(row)
    how, share = detail.rsplit(" ", 1)
    for smaller in (1.0, 0.6, 0.3, 0.1):  # until it strikes before the command has ended
        bench.restore(row.starts_from)
        before = results.of_folder(bench.world)
        running = _signalled(bench, row, reference, number, how, float(share) * smaller)
        ended = running.wait()
        has_printed_all = results.of_text(ended.out) == reference.printed
        if ended.code != 0 and not has_printed_all:
            break
    else:
        return Verdict(Outcome.SKIPPED, "the command ended before the signal")
    if fault := why_unclean(ended):
        return failed(fault)
    if ended.code != STOPPED[number]:
        return failed(f"exit code {ended.code} after {number.name}: {last_line(ended)}")
    if number is not signal.SIGKILL:
        if not ended.message:
            return failed(f"stopped by {number.name} without a message")
        if left := [name for name in scratch_in(bench.world) if name not in before]:
            return failed(f"stopped by {number.name}, and left {', '.join(left[:3])}")
    return same_in_the_end(bench, row, reference)


def _signalled(
    bench: Bench, row: Row, reference: Reference, number: int, how: str, share: float
) -> Running:
    """Start a command that gets a signal at a share of its file operations, or of its time."""
    if how == "operation" and reference.num_writes:
        chosen = 1 + int(share * reference.num_writes)
        return bench.start(row.command, action="signal", at_operation=chosen, signal=int(number))
    is_fresh = how.startswith("fresh")
    seconds = share * (reference.num_seconds + (FRESH_SECONDS if is_fresh else 0.0))
    running = bench.start(row.command, is_fresh=is_fresh)
    while is_fresh and running.counts() is None and not running.has_ended():
        time.sleep(0.001)  # until Python itself has started
    seconds += running.seconds() if is_fresh else 0.0
    while running.seconds() < seconds and not running.has_ended():
        time.sleep(0.001)
    running.send(number)
    return running


def _fill_disk(bench: Bench, row: Row, free_kb: int) -> Verdict:
    reference = bench.reference(row)
    try:
        with bench.on_small_disk(row.starts_from, free_kb) as make_room:
            verdict = of_refusal(bench.run(row.command))
            make_room()
            return _then_with_enough(bench, row, reference, verdict)
    except PermissionError as error:
        return Verdict(Outcome.SKIPPED, str(error))


def _limit_memory(bench: Bench, row: Row, extra_mb: int) -> Verdict:
    reference = bench.reference(row)
    bench.restore(row.starts_from)
    ended = bench.run(row.command, extra_memory=extra_mb * 2**20)
    is_rounded = "from now on a micro-batch has" in ended.err
    return _then_with_enough(bench, row, reference, of_refusal(ended), is_rounded=is_rounded)


def _then_with_enough(
    bench: Bench,
    row: Row,
    reference: Reference,
    verdict: Verdict | None,
    *,
    is_rounded: bool = False,
) -> Verdict:
    """Judge a command that ran short of something, and run it again with enough."""
    if verdict is not None and verdict.outcome is Outcome.FAILED:
        return verdict
    if left := scratch_in(bench.world):
        return failed(f"it left {', '.join(left[:3])}")
    after = same_in_the_end(bench, row, reference, is_rounded=is_rounded)
    return after if verdict is None or after.outcome is Outcome.FAILED else verdict


def _forbid_writing(bench: Bench, row: Row, what: str) -> Verdict:
    """Take away the right to write, from the run or, where there is none yet, from the folder."""
    reference = bench.reference(row, row.damaged_stage)
    bench.restore(row.damaged_stage)
    inside = "release/" if row.verb == "verify" else f"{RUN}/"
    archive = bench.world if what == "the folder" else bench.world / inside
    before = results.bytes_of(archive)
    paths = [archive, *archive.rglob("*")]
    kept_writable = [bench.world / name for name in ("tmp", "home", "cache")]
    for path in paths:
        if path not in kept_writable:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    ended = bench.run(row.command, is_powerless=True)
    for path in paths:
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o200)
    if changed := results.differences(before, results.bytes_of(archive)):
        return failed(f"it wrote into an archive: {changed[0]}")
    verdict = of_refusal(ended)
    if verdict is None:
        found = departures(bench, reference, ended, but=inside)
        return failed(f"another result: {found}") if found else survived()
    if verdict.outcome is Outcome.EXPLAINED and row.verb in WORK_ON_ARCHIVES:
        return failed(f"an archive needs no writing: {verdict.reason}")
    return verdict


def _run_two(bench: Bench, row: Row, share: float) -> Verdict:
    """Hold a command in its course, run it a second time, and let the first go on."""
    reference = bench.reference(row)
    bench.restore(row.starts_from)
    first = _signalled(bench, row, reference, int(signal.SIGSTOP), "operation", share)
    while not first.has_ended() and not first.is_stopped():
        time.sleep(0.001)
    second = bench.start(row.command)
    until = time.monotonic() + 3 * reference.num_seconds + 10
    while not second.has_ended() and time.monotonic() < until:  # it may wait for the first
        time.sleep(0.005)
    first.send(signal.SIGCONT)
    verdicts = [of_refusal(second.wait()), of_refusal(first.wait())]
    for which, verdict in zip(("second", "first"), verdicts, strict=True):
        if verdict is not None and verdict.outcome is Outcome.FAILED:
            return replace(verdict, reason=f"the {which} process: {verdict.reason}")
    if None not in verdicts:
        return failed(f"each refused because of the other: {verdicts[0]}")
    after = same_in_the_end(bench, row, reference)
    refusal = next((verdict for verdict in verdicts if verdict is not None), None)
    return after if refusal is None or after.outcome is Outcome.FAILED else refusal


def _change_during(bench: Bench, row: Row, target: str, share: str) -> Verdict:
    """Change a file while a command runs: it notices, or its result is of one of the two files."""
    is_there = (bench.stage(row.starts_from) / target).is_file()
    stage = row.starts_from if is_there else row.damaged_stage
    reference = bench.reference(row, stage)
    bench.restore(stage)
    chosen = 1 + int(float(share) * reference.num_operations)
    ended = bench.run(row.command, action="flip", at_operation=chosen, target=target)
    verdict = of_refusal(ended)
    if verdict is not None:
        return verdict
    found = departures(bench, reference, ended, but=target)
    if not found:
        return survived()
    made = results.of_folder(bench.world)
    bench.restore(stage)
    flip_a_bit(bench.world / target)
    try:
        other = bench.measured(row)
    except RuntimeError:
        return failed(f"not the result of the old file, and the changed one is refused: {found}")
    if made == other.files and results.of_text(ended.out) == other.printed:
        return survived("the result of the changed file")
    return failed(f"a result of neither file: {found}")


def _change_before(bench: Bench, row: Row, fault: Fault, detail: str) -> Verdict:
    """Change a file before a command: it is named, repaired, or makes no difference."""
    # an interrupted training is to end as one that was not
    stage = "new" if row.damaged_stage == "interrupted" else row.damaged_stage
    reference = bench.reference(row, stage)
    swap = bench.other_run() if fault is Fault.SWAPPED else Path()
    bench.restore(row.damaged_stage)
    path = bench.world / detail
    # the message speaks of what a change means for the run
    settings: tuple[str, ...] = ("other settings",)
    meant: dict[str, tuple[str, ...]] = {
        ROWS: ("the rows have changed",),
        RECIPE: settings,
        f"{RUN}/resolved.yaml": settings,
    }
    more = meant.get(detail, ())
    match fault:
        case Fault.TRUNCATED:
            os.truncate(path, path.stat().st_size // 2)
        case Fault.EMPTIED:
            os.truncate(path, 0)
        case Fault.DELETED:
            path.unlink()
        case Fault.FLIPPED:
            flip_a_bit(path, random.Random(f"{row.name} {detail}").random())
        case Fault.SWAPPED:
            if not (swap / detail).is_file():
                return Verdict(Outcome.SKIPPED, "the other run has no such file")
            shutil.copyfile(swap / detail, path)
        case Fault.NO_BASE:
            shutil.rmtree(path)
        case Fault.OTHER_BASE:
            _change_base(path)
            more = ("base", "sha256:")
        case Fault.BETWEEN:
            old, new = ("Who made it?", "Who made that?") if detail == ROWS else ("0.01", "0.02")
            path.write_text(path.read_text().replace(old, new))
        case _:
            raise ValueError(fault)
    return _judge_changed(bench, row, reference, detail, more)


def _change_base(path: Path) -> None:
    """Change a base so that it can still be loaded."""
    if path.suffix == ".safetensors":
        flip_a_bit(path, 0.9)
    elif path.name == "config.json":
        text = path.read_text()
        path.write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    else:
        path.write_text(path.read_text() + "\n")


def _judge_changed(
    bench: Bench, row: Row, reference: Reference, name: str, more: tuple[str, ...]
) -> Verdict:
    """Run a command on a changed file.

    Args:
        bench: with the change made.
        row: the command.
        reference: what it does with nothing changed.
        name: of the file.
        more: further words by which a message may name what is wrong.
    """
    before = results.bytes_of(bench.world)
    ended = bench.run(row.command)
    verdict = of_refusal(ended)
    if verdict is None:
        # where nothing has recorded yet what a file should hold, what it holds now is right
        is_new = row.damaged_stage == "new"
        # and a run that was not decided on is compared, and shown so
        is_undecided = row.verb == "compare" and name.endswith("decision.json")
        is_free = (
            row.is_random
            or is_new
            or (is_undecided and not (bench.world / name).exists())
            or (row.takes_any_rows and name == ROWS)
            or (row.verb == "audit" and _is_in_the_check_list(ended.out, name))
        )
        found = "" if is_free else departures(bench, reference, ended, but=name)
        return failed(f"another result, silently: {found}") if found else survived()
    if verdict.outcome is Outcome.FAILED:
        return verdict
    if not names(ended.message, name, more):
        return failed(f"it does not name {name}: {ended.message}")
    changed = results.differences(before, results.bytes_of(bench.world))
    if changed and row.verb not in ("train", "run"):  # these go on before they come to the file
        return failed(f"refused, and yet {changed[0]}: {last_line(ended)}")
    return verdict


def _is_in_the_check_list(printed: str, name: str) -> bool:
    """Return whether an audit has a line that failed, or was not checked, because of a file."""
    words = "the rows are not at hand" if name == ROWS else Path(name).name
    return any(
        line["status"] in ("fail", "not_checked") and words in line["evidence"]
        for line in json.loads(printed)["findings"]
    )


def _lock_cache(bench: Bench, row: Row) -> Verdict:
    """A cache that nothing can be written to: a base in a local folder needs none."""
    reference = bench.reference(row)
    bench.restore(row.starts_from)
    caches = (bench.world / "cache", bench.world / "home")
    for cache in caches:
        shutil.rmtree(cache)
        cache.mkdir(mode=0o555)
    ended = bench.run(row.command, is_powerless=True)
    verdict = of_refusal(ended)
    if verdict is None:
        found = "" if row.is_random else departures(bench, reference, ended)
        return failed(f"another result: {found}") if found else survived()
    if verdict.outcome is Outcome.EXPLAINED:
        return failed(f"a base in a local folder needs no cache: {verdict.reason}")
    return verdict


def _close_stream(bench: Bench, row: Row, detail: str) -> Verdict:
    """Close a standard stream, or let its reader go: the work is done all the same."""
    reference = bench.reference(row)
    bench.restore(row.starts_from)
    how_started, _, which = detail.rpartition(", ")
    stream, how = which.split(" ", 1)
    ended = bench.run(row.command, is_fresh=bool(how_started), **{stream: how})
    if fault := why_unclean(ended):
        return failed(fault)
    allowed = QUIET_PIPE if how == "no reader" else (0,)
    if ended.code not in allowed:
        return failed(f"exit code {ended.code}: {last_line(ended)}")
    made = results.of_folder(bench.world)
    found = [] if row.is_random else results.differences(reference.files, made)
    return failed("; ".join(found[:3])) if found and ended.code == 0 else survived()
