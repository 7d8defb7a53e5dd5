"""The table of all findings in `docs/data-checks.md`: python -m recipes.check.documentation."""

from __future__ import annotations

import sys

from recipes.data import catalog
from recipes.data.findings import FindingKind

PATH = "docs/data-checks.md"

_HEAD = """# Data checks

`assay check FILE` reads the data of a recipe and reports what is wrong with it as *findings*. Each
has a code, a severity, a count, the places where it was found, and a way out. `assay train` and
`assay run` make the same checks and refuse data with errors.

| severity | what happens |
|---|---|
| error | `check` exits with code 2, and training is refused |
| warning | it is printed, and training goes on |
| ignore | it is not printed |

A recipe may set another severity for a code:

```yaml
data:
  findings: {tiny-class: ignore, near-leak: error}
```

Where a finding *drops rows*, such a row cannot be used. As a warning, the row is left out, counted,
and listed in `data.json`; `data.drop_bad_rows: true` does this for all of these findings at once.

This page is made from the code: `python -m recipes.check.documentation > docs/data-checks.md`.

| finding | severity | what it means | what to do |
|---|---|---|---|
"""


def document() -> str:
    """Return the page: one line for each kind of finding."""
    return _HEAD + "".join(map(_line, catalog.all_kinds()))


def _line(kind: FindingKind) -> str:
    severity = f"{kind.severity}, drops rows" if kind.drops_row else kind.severity
    cells = (f"`{kind.code}`", severity, kind.meaning, kind.way_out)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    sys.stdout.write(document())
