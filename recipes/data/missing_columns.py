"""Columns that a recipe needs and a file lacks: a finding for each file, not for each row.

All rows of a table have its columns, so its first row tells. The objects of a JSON file have keys
of their own: a column is missing where no row has it, and a row is unusable where others do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from recipes.config import DataConfig
from recipes.data import catalog
from recipes.data.findings import Findings
from recipes.data.labels import quoted
from recipes.data.readers import FileRead
from recipes.data.readers.headers import shown_name
from recipes.data.rows import MissingColumn, Need, Row, lacking_name
from recipes.errors import nearest

GROUP = "data.group"
"""Stands for the group column among our names."""

HEAD_ROWS = 100
"""Rows by which the likely columns are guessed."""

GuessColumns = Callable[[Sequence[Mapping[str, Any]]], Mapping[str, str]]
"""From rows to our name of a column, or `GROUP`: what the file is likely to call it."""

_BESIDE_CHATS = frozenset({"completion", "output", "input", "system", "tools"})
"""Columns that go with the one by which a chat is recognised."""

_MOST_NAMES = 12
_LONGEST_NAME = 30
"""Characters of a name that may be offered: where a header is missing, it is text of a row."""


@dataclass
class _Pending:
    """One row that lacks something, until it is known whether all rows do."""

    place: str
    row: str
    needs: tuple[Need, ...]
    why: str


@dataclass
class FileColumns:
    """What one file lacks.

    Args:
        path: the file.
        config: what it is looked for by.
        findings: receives what it lacks.
        guess: names the likely columns; None for none.
    """

    path: Path
    config: DataConfig
    findings: Findings
    guess: GuessColumns | None = None

    names: set[str] = field(default_factory=set)
    """All columns so far."""

    missing: set[str] = field(default_factory=set)
    """Names (theirs) that no row has, once it is known."""

    likely: dict[str, str] = field(default_factory=dict)
    """What is read in the place of what a table lacks, so that the rest of it can be judged."""

    _head: Sequence[Row] = ()
    _read: FileRead | None = None
    _unmet: tuple[Need, ...] = ()
    _pending: list[_Pending] = field(default_factory=list)
    _unowned: list[tuple[str, str]] = field(default_factory=list)
    _num_unmet: int = 0
    _is_met: bool = False

    def look_at(
        self,
        head: Sequence[Row],
        read: FileRead | None,
        unmet_by: Callable[[Row], tuple[Need, ...]],
    ) -> None:
        """Look at the first rows, before any is parsed.

        Args:
            head: the first rows.
            read: how the file is read.
            unmet_by: what a row lacks.
        """
        self._head, self._read = head, read
        if not head or read is None or not read.columns:
            return
        self.names.update(read.columns)
        needs = unmet_by(head[0])
        if self.config.group is not None and self.config.group not in self.names:
            needs += ((GROUP,),)
        self._unmet = needs
        if needs:
            self.likely = self._report(needs)

    @property
    def settings(self) -> DataConfig:
        """The recipe's settings, with the likely columns in the place of those that are missing."""
        if not self._unmet:
            return self.config
        columns = {ours: theirs for ours, theirs in self.likely.items() if ours != GROUP}
        has_group = (GROUP,) not in self._unmet
        group = self.config.group if has_group else self.likely.get(GROUP)
        update = {"columns": {**self.config.columns, **columns}, "group": group}
        return self.config.model_copy(update=update)

    @property
    def can_parse(self) -> bool:
        """Whether every row has, or is likely to have, what is needed of it."""
        needs = (need for need in self._unmet if need != (GROUP,))
        return all(any(name in self.likely for name in need) for need in needs)

    def lacks(self, row: Row, name: str, error: MissingColumn) -> None:
        """Record a row that lacks columns, or remember it while all rows before it do."""
        self._num_unmet += 1
        self._pending.append(_Pending(row.place, name, error.needs, str(error)))
        if self._is_met:
            self._report_rows(())

    def is_met(self) -> None:
        """Record that a row lacks nothing, so that others that do are at fault themselves."""
        self._is_met = True
        self._report_rows(())

    def lacks_group(self, row: Row, name: str) -> None:
        """Remember a row without a value in the group column."""
        self._unowned.append((row.place, name))

    def finish(self) -> bool:
        """Report what is missing, and return whether the group column is, in all rows."""
        counts = Counter(need for one in self._pending for need in one.needs)
        unmet = [need for need, count in counts.items() if count == self._num_unmet and count > 1]
        self._report_rows(unmet)
        group = self.config.group
        is_reported = (GROUP,) in self._unmet
        is_ungrouped = len(self._unowned) > 1 and group not in self.names
        if is_ungrouped and not is_reported:
            unmet.append((GROUP,))
        elif not is_reported:
            for place, name in self._unowned:
                detail = f"no value in column {group!r}"
                self.findings.add(catalog.MISSING_GROUP, place, detail, row=name)
        if unmet:
            self._report(unmet)
        return is_ungrouped or is_reported

    def _report_rows(self, unmet: Collection[Need]) -> None:
        """Record the rows that lack columns, but for what the whole file lacks."""
        for one in self._pending:
            if not set(one.needs) & set(unmet):
                self.findings.add(catalog.UNUSABLE_ROW, one.place, one.why, row=one.row)
        self._pending.clear()

    def _report(self, needs: Sequence[Need]) -> dict[str, str]:
        """Record what no row has, and return the likely columns."""
        found = self._find_likely(needs)
        header = self._read.header_row if self._read is not None else None
        place = f"{self.path}:{header}" if header is not None else str(self.path)
        for need in needs:
            if need == (GROUP,):
                name, theirs = f"{self.config.group!r} (data.group)", {str(self.config.group)}
            else:
                columns = self.config.columns
                name, theirs = lacking_name(need, columns), {columns.get(n, n) for n in need}
            self.missing |= theirs
            likely = next((found[ours] for ours in need if ours in found), None)
            hint = f"; likely {shown_name(likely)}" if likely is not None else ""
            self.findings.add(catalog.MISSING_COLUMN, place, f"no column {name}{hint}")
        self.findings.note(catalog.MISSING_COLUMN, self._describe())
        if found:
            self.findings.paste(catalog.MISSING_COLUMN, self._to_paste(found))
        return found

    def _find_likely(self, needs: Sequence[Need]) -> dict[str, str]:
        """Return our names with the columns that are likely meant: by their names, or contents."""
        guessed = self.guess([row.values for row in self._head]) if self.guess else {}
        columns = self.config.columns
        taken = {columns.get(ours, ours) for need in needs for ours in need} | {
            theirs for theirs in columns.values() if theirs in self.names
        }
        found: dict[str, str] = {}
        for need in needs:
            for ours, theirs in self._candidates(need, guessed):
                if theirs not in taken and len(theirs) <= _LONGEST_NAME:
                    found[ours] = theirs
                    taken.add(theirs)
                    break
        if any("messages" in need for need in needs) and found:
            for ours in _BESIDE_CHATS & guessed.keys():
                if guessed[ours] not in taken and columns.get(ours, ours) not in self.names:
                    found[ours] = guessed[ours]
        return found

    def _candidates(self, need: Need, guessed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        folded = {name.strip().casefold(): name for name in sorted(self.names)}
        for ours in need:
            is_group = ours == GROUP
            wanted = self.config.group if is_group else self.config.columns.get(ours, ours)
            key = str(wanted).casefold()
            for near in get_close_matches(key, folded, n=1, cutoff=0.75):
                yield ours, folded[near]
        for ours in need:
            if ours in guessed and guessed[ours] in self.names:
                yield ours, guessed[ours]

    def _describe(self) -> str:
        """Return the columns that there are, and what to set where a table was read wrongly."""
        read = self._read
        is_table = read is not None and bool(read.columns)
        names = read.columns if read is not None and is_table else sorted(self.names)
        text = f"{self.path.name} has {listed(names)}"
        if read is None or not is_table:
            return text
        ways = {"csv": ["delimiter", "header_row"], "tsv": ["delimiter", "header_row"]}
        settings = ways.get(read.kind, ["sheet", "header_row"] if read.sheet is not None else [])
        settings = settings + ([] if read.encoding is None else ["encoding"])
        row = f", columns named in {read.header_row}" if read.header_row is not None else ""
        wrong = ", ".join(f"data.{one}" for one in settings)
        return f"{text} ({read.describe()}{row})" + (
            f". If it was read wrongly, set {wrong}" if wrong else ""
        )

    def _to_paste(self, found: Mapping[str, str]) -> str:
        kept = {o: t for o, t in self.config.columns.items() if t in self.names and o not in found}
        columns = kept | {ours: theirs for ours, theirs in found.items() if ours != GROUP}
        lines = ["columns:", *(f"  {o}: {quoted(t)}" for o, t in columns.items())]
        group = [f"group: {quoted(found[GROUP])}"] if GROUP in found else []
        return "\n".join([*(lines if columns.keys() - kept.keys() else []), *group])


def find_idle(
    config: DataConfig, seen: Set[str], missing: Collection[str], findings: Findings
) -> None:
    """Record names for columns that no row of any file has: what they turn on would be off.

    Args:
        config: with the names.
        seen: columns of all files.
        missing: names that are reported already.
        findings: receives the others.
    """
    named = [(f"data.columns: {ours}", theirs) for ours, theirs in config.columns.items()]
    if config.group is not None:
        named.append((GROUP, config.group))
    for place, theirs in named:
        if seen and theirs not in seen and theirs not in missing:
            hint = nearest(theirs, seen) or f"they have {listed(sorted(seen))}"
            findings.add(catalog.MISSING_COLUMN, place, f"no row has a column {theirs!r}; {hint}")


def listed(names: Sequence[str]) -> str:
    """Return the first names of columns in words.

    Example:
        >>> listed(["a", "b"]), listed([])
        ("'a', 'b'", 'no columns')
    """
    shown = ", ".join(map(shown_name, names[:_MOST_NAMES])) or "no columns"
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")
