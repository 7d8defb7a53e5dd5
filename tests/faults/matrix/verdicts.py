"""How a try is judged: what a command may do under a fault, and what it must have made after."""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.faults.matrix import results
from tests.faults.matrix.bench import Bench, Reference
from tests.faults.matrix.cells import RUN, Row
from tests.faults.matrix.processes import Ended

EXPLAINED = (2, 3, 4, 5)
"""Exit codes of what users can put right: input, gate, budget, integrity."""

STOPPED = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
"""The exit code after each signal."""

QUIET_PIPE = (0, 141, -signal.SIGPIPE)
"""Exit codes where a reader has gone: the work was done, or it ended as programs do then."""


class Outcome(StrEnum):
    """What came of a try."""

    SURVIVED = "survived"
    """The command, or after an interruption the same command again, did what it does without the
    fault."""

    EXPLAINED = "explained"
    """It refused with exit code 2, 3, 4 or 5 and a message that names what is wrong."""

    FAILED = "failed"
    """A traceback, another result, an unclear message, litter, or no end."""

    SKIPPED = "skipped"
    """It could not be tried here."""


@dataclass(frozen=True)
class Verdict:
    """What came of a try, and why it is called that."""

    outcome: Outcome
    reason: str = ""


def survived(reason: str = "") -> Verdict:
    """Return that the fault made no difference in the end."""
    return Verdict(Outcome.SURVIVED, reason)


def failed(reason: str) -> Verdict:
    """Return that what must not happen has happened."""
    return Verdict(Outcome.FAILED, reason)


def why_unclean(ended: Ended) -> str:
    """Return what no command may do, whatever happens to it; nothing where it did not."""
    if ended.code is None:
        return "it hung"
    if ended.has_traceback:
        return f"a traceback, exit code {ended.code}: {last_line(ended)}"
    if ended.num_orphans:
        return f"{ended.num_orphans} processes outlived it"
    return ""


def last_line(ended: Ended) -> str:
    """Return the last line of what a command printed, on standard error if there is any."""
    lines = (ended.err or ended.out).strip().splitlines()
    return lines[-1][:300] if lines else "no message"


def of_refusal(ended: Ended) -> Verdict | None:
    """Return the verdict on a command that did not succeed; None if it did."""
    if fault := why_unclean(ended):
        return failed(fault)
    if ended.code == 0:
        return None
    if ended.code not in EXPLAINED or not ended.message:
        return failed(f"exit code {ended.code}: {last_line(ended)}")
    return Verdict(Outcome.EXPLAINED, f"{ended.code}: {ended.message}")


def names(message: str, name: str, more: tuple[str, ...]) -> bool:
    """Return whether a message names what is wrong.

    That is a file, or what it is or is part of: the decision, the record, the merged model, the
    adapter. The name of the run alone does not do.

    Args:
        message: of a command.
        name: of the file.
        more: further words that name it.
    """
    path = Path(name)
    parts = [part for part in path.parent.parts if part not in (*Path(RUN).parts, "eval")]
    flat = message.replace("\n", " ")
    return any(word in flat for word in (path.name, path.stem, *parts, *more))


def departures(bench: Bench, reference: Reference, ended: Ended, *, but: str = "") -> str:
    """Return in words how files and print differ from the reference; nothing where they do not.

    Args:
        bench: with the world after the command.
        reference: what an undisturbed command does.
        ended: the command.
        but: beginning of the names of files that may differ, or not be written.
    """
    found = results.differences(reference.files, results.of_folder(bench.world))
    found = [one for one in found if not but or not one.startswith(but)]
    printed, wanted = results.of_text(ended.out), reference.printed
    if but.endswith("/") and isinstance(printed, dict) and isinstance(wanted, dict):
        unwritten = [key for key, value in wanted.items() if str(value).startswith(but)]
        unwritten.append("unwritten")  # says why
        printed, wanted = (
            {key: value for key, value in one.items() if key not in unwritten}
            for one in (printed, wanted)
        )
    if ended.code == 0 and printed != wanted:
        found.append(f"standard output differs{_where(printed, wanted)}")
    return "; ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _where(one: Any, other: Any) -> str:
    """Return the path of the first difference of two JSON values, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *other]:
            if one.get(key, "\0") != other.get(key, "\0"):
                return f" at {key}{_where(one.get(key), other.get(key))}"
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                return f" at {place}{_where(left, right)}"
    return f": {str(one)[:80]!r} for {str(other)[:80]!r}"


def scratch_in(world: Path) -> list[str]:
    """Return the temporary files that lie about in a world."""
    return [
        name
        for name in results.of_folder(world)
        if name.startswith("tmp/") or any(part.startswith(".") for part in name.split("/"))
    ]


def same_in_the_end(
    bench: Bench, row: Row, reference: Reference, *, is_rounded: bool = False
) -> Verdict:
    """Run the same command without a fault and hold what it made against the reference.

    Args:
        bench: with the world after the fault.
        row: the command.
        reference: what an undisturbed command does.
        is_rounded: whether steps were taken in smaller micro-batches, whose sums round otherwise;
            then the files are compared by name, and the best loss to one in a thousand.
    """
    ended = bench.run(row.command)
    # what was finished before the signal is whole, and is not written over
    writes_once = row.verb in ("init", "predict", "restore", "ship")
    is_there = writes_once and "exists already" in ended.message
    if (ended.code != 0 or ended.has_traceback) and not is_there:
        return failed(f"the same command afterwards: {ended.code}, {last_line(ended)}")
    if row.is_random:
        return _private_end(bench, reference)
    if is_rounded:
        return _rounded_end(bench, reference)
    if found := departures(bench, reference, ended):
        return failed(f"the same command goes on to another result: {found}")
    return survived()


def _rounded_end(bench: Bench, reference: Reference) -> Verdict:
    made = results.of_folder(bench.world)
    if set(made) != set(reference.files):
        found = results.differences(reference.files, made)
        return failed("; ".join(one for one in found if not one.endswith(" differs")))
    loss = results.best_loss(bench.world / RUN)
    if not math.isclose(loss, reference.best_loss, rel_tol=1e-3):
        return failed(f"in smaller micro-batches a best loss of {loss}, not {reference.best_loss}")
    return survived("in smaller micro-batches")


def _private_end(bench: Bench, reference: Reference) -> Verdict:
    """Two private trainings draw other noise, so their files, account and audit are compared."""
    made = results.of_folder(bench.world)
    if set(made) != set(reference.files):
        found = results.differences(reference.files, made)
        return failed("; ".join(one for one in found if not one.endswith(" differs")))
    audited = bench.run(("audit", RUN, "--json"))
    if audited.code != 0 or '"status": "fail"' in audited.out:
        return failed(f"the audit afterwards: {audited.code}, {last_line(audited)}")
    return survived()
