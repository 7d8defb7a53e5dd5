"""What a private run does differently: its tested mechanism, its ledger and its account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune.train import StepRule
from privacy import budget
from privacy.ledger import Ledger
from privacy.mechanism import OS_RANDOMNESS, PoissonSampler
from privacy.plan import BudgetConfig, DPPlan
from privacy.provable import mechanism_of, of_group, said
from privacy.self_test import Check, self_test
from privacy.trainer import private_trainer
from recipes import provenance
from recipes.console import Narrator
from recipes.data import dataset
from recipes.data.near_duplicates import near_duplicates
from recipes.data.split import DataRow
from recipes.domains import Domain
from recipes.errors import Problem, Problems
from recipes.run import RECORD, Run


def private_rule(
    run: Run,
    domain: Domain,
    plan: DPPlan,
    learned: Sequence[DataRow[Any]],
    members: list[list[int]],
    sealed: str,
    narrator: Narrator,
) -> StepRule:
    """Test the mechanism, open the ledger, and say how a private step is made."""
    checks = self_test(plan)
    failed = [Problem(c.name, c.detail) for c in checks if not c.passed]
    if failed:
        raise Problems("the privacy mechanism failed its self-test; nothing was trained:", failed)
    narrator.say(f"privacy self-test: {len(checks)} of {len(checks)} checks hold")
    provenance.add(run.folder / RECORD, "privacy_self_test", [asdict(c) for c in checks])
    ledger = Ledger.open(
        run.ledger,
        plan,
        data=dataset.fingerprint(domain.parts.train),
        is_private=OS_RANDOMNESS.is_private,
        canaries=sealed,
        is_deferred=True,
    )
    account = _Account(run, domain, plan, ledger, narrator)
    account.check()
    largest = _count_units(run, learned, members, plan, narrator)
    if largest > 1:
        narrator.say(
            f"the unit of privacy is {plan.unit}: {len(members)} of them, with up to {largest} "
            "rows each, of which a step uses one"
        )

    def add(model_checks: list[Check]) -> None:
        all_checks = [asdict(check) for check in (*checks, *model_checks)]
        provenance.add(run.folder / RECORD, "privacy_self_test", all_checks)

    canaries = [[len(learned) + i] for i in range(run.recipe.data.canaries)]  # behind the rows
    return StepRule(
        schedule=PoissonSampler(plan, members=[*members, *canaries]),
        wrap=lambda trainer: private_trainer(
            trainer, plan=plan, ledger=ledger, on_checks=add, on_ready=account.charge
        ),
        max_examples_per_micro_batch=32,
    )


def _count_units(
    run: Run,
    rows: Sequence[DataRow[Any]],
    members: list[list[int]],
    plan: DPPlan,
    narrator: Narrator,
) -> int:
    """Write down what one unit and one person owns, and which texts stand in several units."""
    largest = max(map(len, members))
    column = run.recipe.data.group
    counted = {
        "unit": plan.unit,
        "num_units": plan.num_examples,  # canaries included
        "num_rows": len(rows),
        "largest_num_rows": largest,
        "rows_to_a_step": 1,
        "rows_cut": 0,  # none has to be: a step uses one row of a unit, however many it owns
    }
    if plan.unit == "example" and column is not None:
        owned = max(Counter(row.group for row in rows).values())
        counted |= {"column": column, "largest_num_rows_owned": owned}
        if owned > 1:
            narrator.say(
                f"the unit of privacy is one example, and one {column} owns up to {owned}: for all "
                f"of them together, {said(of_group(mechanism_of(plan), owned))}"
            )
    provenance.add(run.folder / RECORD, "privacy_units", counted)
    alike = near_duplicates(rows, members)
    provenance.add(run.folder / RECORD, "privacy_duplicates", alike.to_json())
    if alike.num_near:
        narrator.say(
            f"{alike.num_near} rows stand, word for word or nearly, in more than one unit of "
            f"privacy, one text in up to {alike.largest_family}; record.json lists them"
        )
    return largest


@dataclass(frozen=True)
class _Account:
    """The account of the data set, if the recipe names one, for one run.

    A run that is refused has spent nothing. So the account is looked at before training, and
    charged with the whole plan when nothing is left that could refuse the run: before the first
    charge of its ledger.
    """

    run: Run
    domain: Domain
    plan: DPPlan
    ledger: Ledger
    narrator: Narrator

    def check(self) -> None:
        """Refuse a run that does not fit on the account, and write nothing."""
        if (config := self._config()) is None:
            return
        budget.check(
            self.run.source / config.file,
            config,
            self.plan,
            lines=self.ledger.lines,
            name=self.run.recipe.name,
            data=dataset.fingerprint(self.domain.parts.train),
        )

    def charge(self) -> None:
        """Put the whole plan on the account, with the run's ledger begun."""
        if (config := self._config()) is None:
            return
        account = budget.reserve(
            self.run.source / config.file,
            config,
            self.plan,
            run=self.ledger.run,
            name=self.run.recipe.name,
            data=dataset.fingerprint(self.domain.parts.train),
            num_charged=self.ledger.charged,
            before_writing=self.ledger.begin,
        )
        self.ledger.tell(budget.Witness(self.run.source / config.file))
        self.narrator.say(
            f"account {config.file}: {len(account.reservations)} runs, epsilon "
            f"{account.spent():.3f} of {account.epsilon:g} at delta {account.delta:g}"
        )
        noted = {"file": config.file, "head": account.head}
        provenance.add(self.run.folder / RECORD, "account", noted)

    def _config(self) -> BudgetConfig | None:
        return self.run.recipe.privacy.budget if self.run.recipe.privacy else None
