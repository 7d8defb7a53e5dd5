"""The door to lm-evaluation-harness: our engine answers its tasks, its tasks join our reports.

Needs the optional extra ``lm-eval``. Requests, filters and per-item metrics are the harness's own
(Gao et al. 2024, https://zenodo.org/records/12608602); what is ours is the engine that answers and
the interval of each figure.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import evaluate
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from eval import chat_rendering
from eval.batching import Steps, quiet
from eval.control_tokens import tokenize
from eval.errors import EvaluationError
from eval.model import LanguageModel, output_of
from eval.stats import mean_of
from eval.task import Family, Metric, Progress, Sample, Task, fingerprint

_BIAS = ("bbq", "crows_pairs", "winogender", "simple_cooperative_bias")
_HALLUCINATION = ("truthfulqa", "halueval", "haerae_hallucination")
_DEFAULT_NEW_TOKENS = 256


class EngineLM(TemplateLM):  # type: ignore[misc] # lm_eval ships no types
    """Our engine as a model of lm-evaluation-harness.

    Example: ``lm_eval.simple_evaluate(model=EngineLM(LanguageModel(model, tokenizer)), ...)``
    """

    backend = "causal"

    def __init__(self, engine: LanguageModel, progress: Progress = quiet) -> None:
        """Wrap an engine.

        Args:
            engine: base, adapter or merged model.
            progress: called with the number of requests done.
        """
        super().__init__()
        self._engine = engine
        self._progress = progress
        self.num_tokens: dict[tuple[str, str], int] = {}
        """Of each continuation scored so far, by context and continuation."""

        self._has_chats = False  # a run of the harness has chats or texts, and not both

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self._engine.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What a text without context stands on: BOS, else EOS."""
        return self._engine.start_id()

    @property
    def max_length(self) -> int:
        """Tokens that the model can see; a large number where it names none."""
        config = self._engine.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 2**20)

    @property
    def tokenizer_name(self) -> str:
        """What the harness keys its cache of requests by."""
        return str(self._engine.tokenizer.name_or_path)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a chat as text, by the tokenizer's template."""
        self._has_chats = True
        return chat_rendering.render(
            self._engine.tokenizer,
            chat_history,
            is_prompt=add_generation_prompt,
            is_continued=not add_generation_prompt,
        )

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the template that the adapter was trained with."""
        return str(self._engine.tokenizer.chat_template or "") if chat_template else ""

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """Return token ids, with the tokenizer's own special tokens unless told otherwise.

        Control tokens are made of a rendered chat alone, not of texts.
        """
        tokenizer = self._engine.tokenizer
        escaped = string if self._has_chats else self._engine.text(string)
        if add_special_tokens is None:
            add_special_tokens = not escaped.startswith(tokenizer.decode([self.prefix_token_id]))
        return tokenize(tokenizer, escaped, add_special_tokens=add_special_tokens)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self._has_chats:
            continuation = self._engine.text(continuation)
        found: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return found

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Score token lists; a text beyond the window loses its first tokens, as in the harness."""
        del disable_tqdm
        pairs = []
        for asked, context, text in requests:
            self.num_tokens[asked] = len(text)
            ids = [*context, *text][-(self.max_length + 1) :]
            start = max(1, len(ids) - len(text))
            pairs.append((ids[:start], ids[start:]))
        found = self._engine.score_tokens(pairs, self._progress)
        return [(ll.value, ll.is_greedy) for ll in found]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts, in windows where one is longer than the model can see."""
        del disable_tqdm
        windows = [
            [
                make_disjoint_window(window)
                for window in get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                )
            ]
            for request in requests
        ]
        flat = [(None, context, text) for own in windows for context, text in own]
        found = iter(self._loglikelihood_tokens(flat))
        return [sum(next(found)[0] for _ in own) for own in windows]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generate replies, cut at the first stop sequence."""
        del disable_tqdm
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        replies = [""] * len(requests)
        for key, members in groups.items():
            settings = normalize_gen_kwargs(json.loads(key), _DEFAULT_NEW_TOKENS)
            end = self._engine.tokenizer.decode([self.eot_token_id])
            found = self._engine.generate(
                [requests[i].args[0] for i in members],
                max_new_tokens=settings["max_gen_toks"],
                temperature=settings.get("temperature", 1.0) if settings.get("do_sample") else 0.0,
                stop=handle_stop_sequences(settings.get("until"), eos=end),
                is_stripped=False,
                is_text=not self._has_chats,
                progress=self._progress,
            )
            for i, [reply] in zip(members, found, strict=True):
                replies[i] = reply
        return replies


def load(name: str, folder: Path | None = None, *, max_items: int | None = None) -> list[Task]:
    """Return a task of lm-evaluation-harness, or the tasks of a group, as ours.

    Args:
        name: as the harness knows it.
        folder: of task files of one's own, instead of those that come with the harness.
        max_items: of each task, the first ones, as the harness's own limit.

    Raises:
        EvaluationError: if there is no such task, its data cannot be read, or a file in the
            folder would run code.
    """
    if folder is not None:
        _refuse_code(folder)
    own = None if folder is None else str(folder)
    # reading the names of all tasks that come with the harness takes many seconds
    manager = TaskManager(include_path=own, include_defaults=folder is None)
    try:
        found = manager.load([name])["tasks"]
    except Exception as error:
        raise EvaluationError(
            f"lm-eval task {name}: {type(error).__name__}: {_first_line(error)}. Offline, a task "
            "needs its data in local files (dataset_path: json, dataset_kwargs: data_files)"
        ) from error
    return [_task(leaf, task, max_items) for leaf, task in sorted(found.items())]


def _refuse_code(folder: Path) -> None:
    """Refuse task files that run code of their own: a task file is data, and data is not run."""
    if not folder.is_dir():
        raise EvaluationError(f"lm-eval: there is no folder {folder} of task files")
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if re.search(r"!function\b", line.split("#")[0]):
                raise EvaluationError(
                    f"{path}:{number}: !function runs Python code from the folder of task files; "
                    "wanted a task in declarations only. Write its prompt as a Jinja template"
                )
    if scripts := sorted(folder.rglob("*.py")):
        raise EvaluationError(f"{scripts[0]}: a folder of task files holds no Python code")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _task(name: str, theirs: Any, max_items: int | None) -> Task:
    theirs.build_all_requests(limit=max_items, rank=0, world_size=1)
    requests = [[i.request_type, i.doc_id, repr(i.args)] for i in theirs.instances]
    docs = sorted({i.doc_id for i in theirs.instances})
    aggregations = theirs.aggregation()
    directions = theirs.higher_is_better()

    def ask(model: LanguageModel, progress: Progress) -> list[Sample]:
        steps = Steps(progress, num_requests=len(requests), num_items=len(docs))
        lm = EngineLM(model, steps)
        results = evaluate(
            lm,
            {"tasks": {name: theirs}, "groups": {}, "group_map": {}},
            limit=max_items,
            bootstrap_iters=0,
            log_samples=True,
        )
        logged = results["samples"][name]
        first_filter = logged[0]["filter"]
        return [_sample(one, lm.num_tokens) for one in logged if one["filter"] == first_filter]

    return Task(
        name=f"lm-eval.{name}",
        family=_family(name),
        version=1,
        num_items=len(docs),
        fingerprint=fingerprint([name, str(theirs.VERSION), requests]),
        texts={str(i.doc_id): (_question(theirs, i),) for i in theirs.instances},
        ask=ask,
        metrics=tuple(
            Metric(metric, _figure(metric, how), directions.get(metric))
            for metric, how in aggregations.items()
        ),
        note=(
            f"lm-evaluation-harness's task {name}, version {theirs.VERSION}: its requests and "
            "per-item metrics, answered by this engine, without a chat template."
        ),
    )


def _question(theirs: Any, instance: Any) -> str:
    """Return an item's own text, without the examples and instructions before it."""
    text = theirs.doc_to_text(instance.doc)
    return text if isinstance(text, str) else str(instance.args[0])  # a number: of a choice


def _figure(metric: str, how: Callable[[list[Any]], Any]) -> Callable[[Sequence[Sample]], float]:
    """Return the task's own aggregation of what each item was given; undefined if that is text."""
    if getattr(how, "__name__", "") in ("mean", "nanmean"):
        return mean_of(metric, among=f"has_{metric}")

    def compute(samples: Sequence[Sample]) -> float:
        rows = [_numbers(s.scores, metric) for s in samples if s.scores[f"has_{metric}"]]
        return float(how([row if len(row) > 1 else row[0] for row in rows])) if rows else math.nan

    return compute


def _numbers(scores: Mapping[str, float], metric: str) -> tuple[float, ...]:
    """Return what `_sample` kept of an item's value: a number, or several."""
    if metric in scores:
        return (scores[metric],)
    places = itertools.takewhile(lambda key: key in scores, (f"{metric}.{k}" for k in range(99)))
    return tuple(scores[key] for key in places)


def _family(name: str) -> Family:
    if name.startswith(_BIAS):
        return "bias"
    return "hallucination" if name.startswith(_HALLUCINATION) else "accuracy"


def _sample(logged: Mapping[str, Any], num_tokens: Mapping[tuple[str, str], int]) -> Sample:
    """Turn what the harness logged of an item into ours."""
    scores: dict[str, float] = {}
    for metric in logged["metrics"]:
        value = logged[metric]
        several = tuple(value) if isinstance(value, list | tuple) else (value,)
        is_number = bool(several) and all(
            isinstance(x, int | float) and math.isfinite(x) for x in several
        )
        scores[f"has_{metric}"] = float(is_number)
        if is_number and len(several) == 1:
            scores[metric] = float(several[0])
        elif is_number:
            scores |= {f"{metric}.{k}": float(x) for k, x in enumerate(several)}
    answers = [found[0] for found in logged["resps"]]
    likelihoods = tuple(float(a[0]) for a in answers if isinstance(a, tuple | list))
    target = logged["target"]
    prediction = output_of(answers[0]) if isinstance(answers[0], str) else ""
    if likelihoods and isinstance(target, int) and len(likelihoods) > 1:
        choices = [arguments[1] for arguments in logged["arguments"]]
        prediction = choices[max(range(len(likelihoods)), key=likelihoods.__getitem__)].strip()
        target = choices[target].strip() if 0 <= target < len(choices) else target
    correct = scores.get("acc", scores.get("exact_match"))
    return Sample(
        id=str(logged["doc_id"]),
        prediction=prediction,
        target=_text(target),
        scores=scores,
        correct=None if correct not in (0.0, 1.0) else bool(correct),
        prompt=_text(logged["arguments"][0][0]),
        loglikelihoods=likelihoods,
        num_tokens=tuple(
            num_tokens[one[0], one[1]]
            for one in logged["arguments"]
            if len(one) == 2 and isinstance(one[1], str)  # a reply has settings instead
        ),
    )


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " | ".join(map(str, value))
    return str(value)
