"""Every command of `assay` under every fault, for real: ``python -m tests.faults.matrix``.

`cells` is the table, `faults` does one try of a cell and `verdicts` judges it, on the states that
`bench` makes and copies. `child` and `processes` run the commands, `runner` keeps the results, and
`table` writes docs/reliability.md.
"""
