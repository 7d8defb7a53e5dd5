"""What `assay check` prints for a person: the data first, then the findings, the verdict last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from recipes.check.inspection import Inspection
from recipes.check.lengths import Lengths, Shown
from recipes.check.places import folders_of, in_few_lines, without_folders
from recipes.data.catalog import ESSENTIAL
from recipes.data.findings import MOST_PLACES, Finding
from recipes.data.labels import is_plain, quoted
from recipes.printing import Printer

MOST_LABELS = 30
_LONGEST_BAR = 20
_WIDTH_OF_COUNTS = 30 + _LONGEST_BAR
"""Columns of the terminal that the numbers and the bar of a label take."""

STYLES = {"error": "bold red", "warning": "bold yellow", "ignore": "dim"}


def show(found: Inspection, command: str) -> None:
    """Print an inspection; the last line says whether the data is fit to train on."""
    console = Printer()
    folders = folders_of([one.path for one in found.files])
    workbooks = {one.path for one in found.files if one.sheet is not None}
    for one in found.files:
        console.print(Text(f"{Path(one.path).name}: {one.num_rows:,} rows, {one.describe()}"))
    console.print(_summary(found))
    if found.labels:
        console.print(_labels(found, console.width))
    for example in found.shown:
        _show_example(console, example)
    for finding in found.findings:
        if finding.severity != "ignore":
            _show_finding(console, finding, folders, workbooks, found.set_keys)
    console.print()
    console.print(_verdict(found, command))


def _summary(found: Inspection) -> Table:
    table = Table("", "", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, count in found.rows.items():
        table.add_row(f"rows {name.replace('_', ' ')}", f"{count:,}")
    for part, lengths in (("train", found.train_lengths), ("test", found.test_lengths)):
        if lengths is not None:
            table.add_row(f"tokens a row, {part}", _lengths(lengths))
    if found.train_lengths is not None and found.recipe != "classification":
        table.add_row("tokens learned", f"{found.train_lengths.supervised_share:.1%}")
    if found.languages:
        shares = [
            f"{name} {share:.0%}" for name, share in found.languages.items() if share >= 0.005
        ]
        table.add_row("languages", ", ".join(shares[:6]) + (" ..." if len(shares) > 6 else ""))
    table.add_row("personal data", found.personal_data.in_words())
    return table


def _lengths(lengths: Lengths) -> str:
    cut = f", {lengths.num_cut:,} rows cut" if lengths.num_cut else ""
    return f"median {lengths.median}, 95 % up to {lengths.p95}, longest {lengths.longest}{cut}"


def _labels(found: Inspection, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("label", no_wrap=True)
    for part in ("train", "validation", "test"):
        table.add_column(part, justify="right")
    table.add_column("")
    most = max(parts["train"] for parts in found.labels.values()) or 1
    for label, parts in list(found.labels.items())[:MOST_LABELS]:
        bar = "#" * -(-_LONGEST_BAR * parts["train"] // most)
        table.add_row(
            Text(_shown_label(label, max(12, width - _WIDTH_OF_COUNTS))),
            *(f"{parts[name]:,}" for name in parts),
            bar,
        )
    if len(found.labels) > MOST_LABELS:
        table.add_row(f"... {len(found.labels) - MOST_LABELS} more", "", "", "", "--json has all")
    return table


def _shown_label(label: str, most: int | None = None) -> str:
    """Return a label on one line; of a long one, the middle is left out."""
    shown = label if is_plain(label) else quoted(label)
    if most is None or cell_len(shown) <= most:
        return shown
    return f"{set_cell_size(shown, most - most // 3 - 3)}...{shown[-(most // 3) :]}"


def _show_example(console: Printer, one: Shown) -> None:
    notes = [f"label: {_shown_label(one.label)}" if one.label else "learned text is marked [[ ]]"]
    if any(one.control_texts):
        notes.append("text of the row that reads like a mark of the model {{ }}")
    console.print(Text(f"\n{one.row}: {', '.join(notes)}", style="dim"))
    line = Text()
    for (text, is_learned), spans in zip(one.runs, one.control_texts, strict=True):
        style = "bold green" if is_learned else ""
        line.append("[[" if is_learned else "", style)
        end = 0
        for start, stop in spans:
            line.append(text[end:start], style)
            line.append(f"{{{{{text[start:stop]}}}}}", "bold yellow")
            end = stop
        line.append(text[end:] + ("]]" if is_learned else ""), style)
    console.print(line)


def _show_finding(
    console: Printer,
    finding: Finding,
    folders: list[str],
    workbooks: set[str],
    set_keys: frozenset[str],
) -> None:
    """Print a finding; files are named without their folders."""
    heading = Text("\n")
    heading.append(finding.severity.upper(), STYLES[finding.severity])
    heading.append(f"  {finding.kind.code}  ", "bold")
    heading.append(f"{finding.count:,} {'place' if finding.count == 1 else 'places'}")
    console.print(heading)
    console.paragraph(Text(finding.kind.meaning), 2)
    lines = in_few_lines(finding.occurrences, workbooks)
    for line in lines[:MOST_PLACES]:
        console.paragraph(Text(without_folders(line, folders)), 4)
    if len(lines) > MOST_PLACES:
        more = f"... and {len(lines) - MOST_PLACES:,} lines more; --json has all"
        console.paragraph(Text(more), 4)
    for note in finding.notes:
        console.paragraph(Text(without_folders(note, folders)), 2)
    console.paragraph(Text(f"-> {finding.kind.way_out}"), 2)
    for settings in finding.to_paste:
        there = [key for key in _keys(settings) if key in set_keys]
        place = f", in place of its {' and '.join(there)}" if there else ""
        console.paragraph(Text(f"To paste under `data:` of the recipe{place}:"), 2)
        for line in settings.splitlines():
            console.print(Text(f"  {line}"), soft_wrap=True)  # whole, and indented as it must be


def _keys(settings: str) -> list[str]:
    """Return the keys that lines of YAML set."""
    return [line.partition(":")[0] for line in settings.splitlines() if line[:1].isalpha()]


def _verdict(found: Inspection, command: str) -> Text:
    counts = [
        f"{number} {word}{'' if number == 1 else 's'}"
        for word in ("error", "warning")
        if (number := sum(one.severity == word for one in found.findings))
    ]
    if found.num_errors:
        return Text(
            f"{' and '.join(counts)}: the data is NOT fit to train on. {_ways_out(found)}",
            style="bold red",
        )
    ignored = [
        one.kind.code
        for one in found.findings
        if one.severity == "ignore" and one.kind.severity != "ignore"
    ]
    if ignored:
        counts.append(f"ignored as the recipe wants: {', '.join(ignored)}")
    beside = f" ({'; '.join(counts)})" if counts else ""
    return Text(f"the data is fit to train on{beside}; next: assay run {command}", "bold green")


def _ways_out(found: Inspection) -> str:
    """Return what to do about the errors, the settings to paste first."""
    errors = [one for one in found.findings if one.severity == "error"]
    pasted = [one.kind.code for one in errors if one.to_paste]
    others = [one.kind for one in errors if not one.to_paste]
    optional = [kind for kind in others if kind not in ESSENTIAL]
    steps = []
    if pasted:
        codes = _listed(pasted)
        steps.append(f"For {codes}, paste what is printed there under `data:` of the recipe.")
    if others:
        steps.append(f"Correct {'the others' if pasted else 'the errors'}.")
    if optional:
        setting = ", ".join(f"{kind.code}: warning" for kind in optional)
        left_out = [kind.code for kind in optional if kind.drops_row]
        kept = [kind.code for kind in optional if not kind.drops_row]
        results = [f"rows of {_listed(left_out)} are left out"] if left_out else []
        results += [f"{_listed(kept)} may stay"] if kept else []
        steps.append(f"Or set data.findings: {{{setting}}}; then {', and '.join(results)}.")
    steps.append("Every data.KEY is KEY under `data:` of the recipe.")
    return " ".join(steps)


def _listed(codes: Sequence[str]) -> str:
    return " and ".join([", ".join(codes[:-1]), codes[-1]] if len(codes) > 1 else codes)
