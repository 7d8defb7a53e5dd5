"""The page `docs/reliability.md`: what came of every command under every fault."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from tests.faults.matrix.cells import ROWS_OF_TABLE, Fault, Row, details, faults_of
from tests.faults.matrix.runner import Result
from tests.faults.matrix.verdicts import Outcome

MEANING = {
    Fault.KILL: "killed at a random moment of its run, or before the n-th file operation that "
    "writes; then the same command again",
    Fault.SIGTERM: "as systemd, Kubernetes and Slurm stop a process: exit code 143, a line, no "
    "scratch left; then the same command again",
    Fault.SIGINT: "Ctrl-C: exit code 130, a line, no scratch left; then the same command again",
    Fault.FULL_DISK: "a disk with 0 to 600 kB free; then the same command with room",
    Fault.MEMORY: "1 MB to 1 GB of address space more than at its start; then the same command "
    "without a limit",
    Fault.READ_ONLY: "the run or release (before there is one: the folder) may not be written to",
    Fault.SECOND: "held before a file operation while the same command runs a second time, then "
    "let go on",
    Fault.BETWEEN: "a question in the rows, or a setting of the recipe, changed since the command "
    "before",
    Fault.DURING: "a bit of its rows, its base, the adapter, the record or the release flipped "
    "before the n-th file operation",
    Fault.TRUNCATED: "each file in turn cut to its half",
    Fault.EMPTIED: "each file in turn with no bytes",
    Fault.DELETED: "each file in turn gone",
    Fault.FLIPPED: "one bit of each file in turn flipped",
    Fault.SWAPPED: "each file of the run in turn replaced by that of another run, on another base",
    Fault.NO_BASE: "the folder of the base gone",
    Fault.OTHER_BASE: "one bit of its weights, its tokenizer or its configuration changed",
    Fault.CACHE: "a cache and a home that cannot be written to",
    Fault.STREAMS: "standard output or error closed, or its reader gone, as with `| head`",
}


def page(results: Sequence[Result]) -> str:
    """Return the page of the results of all tries, whatever sources they were made on."""
    counted = Counter(result.outcome for result in results)
    verbs = [row for row in ROWS_OF_TABLE if row.name == row.verb]
    others = [row for row in ROWS_OF_TABLE if row.name != row.verb]
    lines = [
        "# What a fault does to a command",
        "",
        "Every command was run under every fault, as a process of its own, on a two-layer base, "
        "and what it made was held against an undisturbed run: adapter bytes, logged losses, "
        "reports and samples, decisions, merged weights, releases and printed results, without "
        "times, and without what only one process knows (tokens it saw, memory it used). Of a "
        "private training, which draws other noise each time, the set of files and `assay audit` "
        "are held instead.",
        "",
        f"{counted.total() - counted[Outcome.SKIPPED]} tries, {_when(results)}, Python "
        f"{platform.python_version()}, torch {version('torch')}, transformers "
        f"{version('transformers')}, {platform.system()} {platform.machine()}: "
        f"{counted[Outcome.SURVIVED]} survived, {counted[Outcome.EXPLAINED]} explained, "
        f"{counted[Outcome.FAILED]} failed.",
        "",
        "- **survived** (first number): the command, or after an interruption the same command "
        "again, ended with what an undisturbed run makes, and no temporary file was left.",
        "- **explained** (second number): exit code 2, 3, 4 or 5 and one message that names what "
        "is wrong, no traceback, and nothing in the run was touched. With the fault gone, the same "
        "command ends as it should.",
        "- **failed** (third number, where there is one): none of these; each is listed below.",
        "- not run: it has not been tried yet. Where a fault has more files than its cell has "
        "tries, only some of them have been tried.",
        "- empty: it does not apply, or is tried on the same command's first row.",
        "",
        *_table(verbs, results),
        "",
        "The table is of question answering. A private training, an audit of it, and runs of the "
        "other two recipes:",
        "",
        *_table(others, results),
        "",
        "## The faults",
        "",
        *(f"- **{fault}**: {MEANING[fault]}." for fault in Fault),
        "",
        "*Each file* is each of the run (of an interrupted one with its checkpoints for `train`, "
        "of a finished one else), of the release for `verify`, and of recipe, rows and base for "
        "the commands that read nothing else.",
        "",
        *_failures(results),
        *_skipped(results),
        "## Again",
        "",
        "```",
        "python -m tests.faults.matrix --write docs/reliability.md     # all of it",
        'python -m tests.faults.matrix --only train/SIGTERM --only "/full disk"',
        "```",
        "",
        "Linux, as root where small disks are to be mounted. Most commands are forked from a "
        "process that has imported everything; some are interpreters of their own. A run that was "
        "stopped goes on where it was.",
        "",
    ]
    return "\n".join(lines)


def _table(rows: Sequence[Row], results: Sequence[Result]) -> Iterable[str]:
    yield f"| fault | {' | '.join(row.name for row in rows)} |"
    yield f"|---|{'---|' * len(rows)}"
    for fault in Fault:
        if any(fault in faults_of(row) for row in rows):
            yield f"| {fault} | {' | '.join(_cell(row, fault, results) for row in rows)} |"


def applies(row: Row, fault: Fault) -> bool:
    """Return whether a fault can happen to a row: whether it has anything to vary."""
    files = tuple(f"{name}/file" for name in row.damaged)
    return fault in faults_of(row) and any(True for _ in details(row, fault, files))


def _cell(row: Row, fault: Fault, results: Sequence[Result]) -> str:
    if not applies(row, fault):
        return ""
    counted = Counter(r.outcome for r in results if (r.row, r.fault) == (row.name, fault.value))
    if not counted.total() - counted[Outcome.SKIPPED]:
        return "not run"
    text = f"{counted[Outcome.SURVIVED]} / {counted[Outcome.EXPLAINED]}"
    return f"{text} / **{counted[Outcome.FAILED]} failed**" if counted[Outcome.FAILED] else text


def _when(results: Sequence[Result]) -> str:
    """Return on which days and commits the tries were made, in words."""
    by_commit = Counter((result.date, result.commit) for result in results)
    return ", ".join(f"{count} on {day} at {at}" for (day, at), count in by_commit.items())


def _failures(results: Sequence[Result]) -> Iterable[str]:
    failures = [result for result in results if result.outcome is Outcome.FAILED]
    if failures:
        yield "## What failed"
        yield ""
        for one in failures:
            first = one.reason.strip().splitlines()[0][:200]
            yield f"- `{one.row}`, {one.fault}, {one.detail}: {first}"
        yield ""


def _skipped(results: Sequence[Result]) -> Iterable[str]:
    reasons = Counter(
        (result.fault, result.reason) for result in results if result.outcome is Outcome.SKIPPED
    )
    if reasons:
        yield "Not tried on this machine:"
        yield ""
        yield from (f"- {fault}, {count}: {why}." for (fault, why), count in reasons.items())
        yield ""
