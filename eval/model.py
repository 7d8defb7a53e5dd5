"""The engine: log-likelihoods and generations of one model under test.

Sums are exact in the sense that matters to a comparison: in float32 or wider whatever the model's
own precision, over tokens cut at the same places as in training, and independent of what else is
in the batch but for rounding.

Requests are strings, in which control tokens are written as they are in a rendered chat. No control
token is made of the texts of items: `LanguageModel.prompt`, `dialogue` and `pairs` escape the texts
of a chat (`eval.control_tokens`), and other texts are escaped by `LanguageModel.text`.

B requests, T tokens.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from eval import chat_rendering
from eval.batching import quiet
from eval.cache import Cache, Found, remember
from eval.control_tokens import control_tokens, tokenize
from eval.errors import EvaluationError
from eval.generation import Generator, Manner
from eval.scoring import Scorer, finite
from eval.task import Progress
from eval.thoughts import answer_of
from eval.tokens import Tokens

Pieces = Sequence[tuple[str, bool]]
"""A request: texts in order, and of each whether it is scored."""

Message = Mapping[str, str]
"""One turn of a chat: ``role``, ``content``, and ``reasoning_content`` where there is a thought."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loglikelihood:
    """How likely a model finds a text after what stands before it."""

    value: float
    """Sum over the tokens, in nats; at most 0."""

    num_tokens: int
    is_greedy: bool
    """Whether greedy decoding would give this text."""

    @property
    def per_token(self) -> float:
        """Mean over the tokens, in nats; NaN for an empty text."""
        return self.value / self.num_tokens if self.num_tokens else math.nan


class Reply(str):
    """The answer of a model that put a thought before it."""

    output: str
    """All that was generated."""

    def __new__(cls, answer: str, output: str) -> Reply:
        """Make the answer a string that knows what was generated."""
        reply = super().__new__(cls, answer)
        reply.output = output
        return reply


def output_of(reply: str) -> str:
    """Return all that was generated, of a reply by `LanguageModel.generate`."""
    return reply.output if isinstance(reply, Reply) else reply


def no_answer(reply: str) -> str:
    """Return an empty answer in place of a reply that declines."""
    return Reply("", reply.output) if isinstance(reply, Reply) else ""


def _reply(output: str, prompt: str) -> str:
    answer = answer_of(output, prompt=prompt)
    return output if answer == output else Reply(answer, output)


class LanguageModel:
    """A causal language model that scores and generates, and remembers what it was asked.

    Make one object for each model under test: answers are remembered for its lifetime, so that
    tasks that ask the same share the work, and weights must not change under it.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_tokens_per_batch: int | None = None,
        cache: Cache | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: of transformers, with or without an adapter of peft.
            tokenizer: its own, with the chat template that the adapter was trained with.
            max_tokens_per_batch: padded tokens in one forward pass; only memory and speed. By
                default 8192, and 2048 to score on a CPU, whose caches hold no more (measured: 1.2
                times the speed).
            cache: where answers outlive the process; none keeps them in memory.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.cache = cache if cache is not None else Cache(None, "")
        at_once = max_tokens_per_batch or (2048 if model.device.type == "cpu" else 8192)
        self._num_scored = 0
        self._scorer = Scorer(model, pad_id=self._pad_id, max_tokens=at_once)
        self._generator = Generator(
            model, tokenizer, pad_id=self._pad_id, max_tokens=max_tokens_per_batch or 8192
        )

    @property
    def num_tokens(self) -> int:
        """Tokens of all requests and prompts answered so far, each as a whole, and of replies."""
        return self._num_scored + self._generator.num_tokens

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the chat as text, up to where the assistant's next words begin.

        Raises:
            EvaluationError: if there is no chat template, or it refuses these messages.
        """
        self._require_template()
        return chat_rendering.render(self.tokenizer, messages, is_prompt=True)

    def text(self, text: str) -> str:
        """Return a text as it is written in a request, so that no control token is made of it.

        Texts without control strings of the tokenizer are returned as they are.
        """
        return control_tokens(self.tokenizer).escape(text)

    def dialogue(self, messages: Sequence[Message]) -> tuple[tuple[str, bool], ...]:
        """Return the chat as pieces of which the assistant's own words are scored.

        Scored is the content of each assistant turn, without the template's words around it and
        without its thought; an assistant turn that opens the chat answers nothing and is not
        scored. What follows the last scored piece is left out.

        Raises:
            EvaluationError: if no turn is scored, or the template rewrites turns, so that their
                words cannot be told apart.
        """
        wanted = [
            number
            for number, message in enumerate(messages)
            if number and message["role"] == "assistant" and message["content"].strip()
        ]
        if not wanted:
            raise EvaluationError("a dialogue without a reply by the assistant cannot be scored")
        self._require_template()
        pieces: list[tuple[str, bool]] = []
        for turn in chat_rendering.rendered_turns(self.tokenizer, messages, wanted):
            thought, answer = chat_rendering.texts_of(self.tokenizer, messages[turn.number])
            content = self.text(answer.strip())
            thought = self.text(thought)
            end_of_thought = turn.reply.find(thought) + len(thought) if thought else 0
            start = turn.reply.find(content, len(turn.lead) or max(0, end_of_thought))
            if start < 0 or not content:
                raise EvaluationError(chat_rendering.REWRITES)
            lead, end = turn.reply[:start], turn.reply[start + len(content) :]
            if lead.strip():  # such as a thought, which is not scored
                pieces += [(turn.prompt, False), (lead, False), (content, True), (end, False)]
            else:
                pieces += [(turn.prompt, False), (lead + content, True), (end, False)]
        return tuple((text, scored) for text, scored in pieces[:-1] if text)

    def pairs(self, messages: Sequence[Message], replies: Sequence[str]) -> list[tuple[str, str]]:
        """Return each reply to a chat as context and continuation, for `loglikelihoods`."""
        first = replies[0].strip()
        *context, (rendered, _) = self.dialogue(
            [*messages, {"role": "assistant", "content": first}]
        )
        lead = rendered[: len(rendered) - len(self.text(first))]
        text = "".join(piece for piece, _ in context)
        return [(text, lead + self.text(reply.strip())) for reply in replies]

    def score(
        self, requests: Sequence[Pieces], progress: Progress = quiet
    ) -> list[list[Loglikelihood]]:
        """Return the log-likelihood of each scored piece, given all text before it.

        Each piece is tokenised by itself, so a token never spans two of them. A request that
        opens with a scored piece is given one token to stand on: the tokenizer's BOS, or EOS if
        it has none. If its own first token already is that one, it serves, and is not scored
        (the rule of lm-evaluation-harness).

        Tokens that requests share at their beginning are read once (`eval.trie`). The first time,
        this is checked against reading requests apart; a model for which the two disagree is
        always read apart.

        Raises:
            EvaluationError: if a request is longer than the model's context window, or the model
                gives no finite number.
        """
        asked = [[[text, scored] for text, scored in request] for request in requests]
        known: dict[str, list[int]] = {}
        return self._score(
            "score", asked, lambda i: self._encode(requests[i], known), progress=progress
        )

    def loglikelihoods(
        self, pairs: Sequence[tuple[str, str]], progress: Progress = quiet, *, joint: bool = False
    ) -> list[Loglikelihood]:
        """Return the log-likelihood of each continuation after its context; see `score`.

        Args:
            pairs: contexts and continuations, as `pairs` or `text` return them; texts as they are
                where ``joint`` is set.
            progress: called with the number of pairs done.
            joint: tokenise the two together and cut after as many tokens as the context alone
                has, with spaces at the context's end moved over, as lm-evaluation-harness does:
                for figures that are compared with its own. Where a token spans the boundary that
                cut is off by a token; the log says how often.
        """
        if not joint:
            requests = [((context, False), (text, True)) for context, text in pairs]
            return [scores[0] for scores in self.score(requests, progress)]
        num_spanned = 0

        def encode(i: int) -> Tokens:
            nonlocal num_spanned
            tokens, is_spanned = self._encode_joint(*pairs[i])
            num_spanned += is_spanned
            return tokens

        found = self._score("joint", [list(pair) for pair in pairs], encode, progress=progress)
        if num_spanned:
            _log.warning(
                "in %d of %d requests a token spans the end of the context and the beginning of "
                "what is scored; they are cut as lm-evaluation-harness cuts them",
                num_spanned,
                len(pairs),
            )
        return [scores[0] for scores in found]

    def score_tokens(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], progress: Progress = quiet
    ) -> list[Loglikelihood]:
        """Return the log-likelihood of each continuation after its context, both as token ids.

        Raises:
            ValueError: if a context is empty; give it the tokenizer's BOS, or EOS.
            EvaluationError: as `score`.
        """
        if not all(context for context, _ in pairs):
            raise ValueError("a continuation needs at least one token before it")

        def encode(i: int) -> Tokens:
            context, text = pairs[i]
            return self._request([*context, *text], [-1] * len(context) + [0] * len(text), 1)

        asked = [[list(context), list(text)] for context, text in pairs]
        return [scores[0] for scores in self._score("tokens", asked, encode, progress=progress)]

    def token_loglikelihoods(
        self,
        requests: Sequence[tuple[Sequence[int], Sequence[bool]]],
        progress: Progress = quiet,
    ) -> list[list[float]]:
        """Return the log-likelihood of each scored token, in nats, given all tokens before it.

        Args:
            requests: token ids, and of each token whether it is scored; the first never is,
                because nothing stands before it.
            progress: called with the number of requests done.

        Raises:
            EvaluationError: as `score`.
        """

        def encode(i: int) -> Tokens:
            ids, is_scored = requests[i]
            owners = [-1] * len(ids)
            num = 0
            for place in range(1, len(ids)):
                if is_scored[place]:
                    owners[place] = num
                    num += 1
            return self._request(list(ids), owners, num)

        asked = [[list(ids), [int(one) for one in is_scored]] for ids, is_scored in requests]
        found = self._score("each token", asked, encode, progress=progress)
        return [[score.value for score in scores] for scores in found]

    def _score(
        self,
        kind: str,
        asked: Sequence[object],
        encode: Callable[[int], Tokens],
        *,
        progress: Progress,
    ) -> list[list[Loglikelihood]]:
        def compute(distinct: Sequence[int], missing: Collection[int]) -> Found:
            tokens = [encode(i) for i in distinct]
            wanted = {place for place, i in enumerate(distinct) if i in missing}
            for found in self._scorer.score(tokens, wanted):
                self._num_scored += sum(len(tokens[place].ids) for place, _ in found)
                yield [
                    (distinct[place], [[finite(value), *more] for value, *more in scores])
                    for place, scores in found
                ]

        values = remember(self.cache, kind, asked, None, compute, progress)
        return [[Loglikelihood(*score) for score in scores] for scores in values]

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        progress: Progress = quiet,
        num_samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        is_stripped: bool = True,
        is_text: bool = False,
    ) -> list[list[str]]:
        """Return the model's replies to each prompt, without special tokens and outer spaces.

        A reply ends at a stop token of the model or its tokenizer, before the first of the texts
        in ``stop``, or after ``max_new_tokens``. With ``is_stripped`` false, outer spaces stay.
        Prompts are rendered chats, or, with ``is_text``, texts of which no control token is made.

        A reply that begins with a thought is a `Reply`: the answer after the thought, empty if the
        thought does not end. What was generated is its ``output``.

        At temperature 0 the reply is greedy. Above it, ``num_samples`` are drawn from the whole
        distribution, whatever the model's own defaults cut off, each from its own seed: what a
        prompt gets depends on no other prompt, and torch's own generator is left as it was.

        Raises:
            EvaluationError: if a prompt and its reply would not fit the model's context window.
        """
        manner = Manner(
            max_new_tokens, num_samples, temperature, seed if temperature else 0, tuple(stop)
        )
        escaped = [self.text(prompt) for prompt in prompts] if is_text else prompts

        def compute(distinct: Sequence[int], missing: Collection[int]) -> Found:
            tokens = [self._tokenize(escaped[i]) or [self.start_id()] for i in distinct]
            self._check_window(max(map(len, tokens), default=0) + max_new_tokens)
            wanted = {place for place, i in enumerate(distinct) if i in missing}
            names = [escaped[i] for i in distinct]
            for found in self._generator.generate(tokens, names, manner, wanted):
                yield [(distinct[place], replies) for place, replies in found]

        parameters = list(astuple(manner))
        found = remember(self.cache, "generate", list(escaped), parameters, compute, progress)
        return [
            [_reply(text.strip() if is_stripped else text, prompt) for text in texts]
            for prompt, texts in zip(escaped, found, strict=True)
        ]

    def _require_template(self) -> None:
        if self.tokenizer.chat_template is None:
            raise EvaluationError(
                "the tokenizer has no chat template, so a chat cannot be put to this model; save "
                "one with the tokenizer"
            )

    def _tokenize(self, escaped: str, *, with_special: bool = False) -> list[int]:
        return tokenize(self.tokenizer, escaped, add_special_tokens=with_special)

    def _encode(self, pieces: Pieces, known: dict[str, list[int]]) -> Tokens:
        ids: list[int] = []
        owners: list[int] = []
        num_pieces = 0
        for text, is_scored in pieces:
            if text not in known:
                known[text] = self._tokenize(text)
            ids += known[text]
            owners += [num_pieces if is_scored else -1] * len(known[text])
            num_pieces += is_scored
        return self._request(ids, owners, num_pieces)

    def _encode_joint(self, context: str, text: str) -> tuple[Tokens, bool]:
        """Return the request, and whether a token spans the boundary."""
        stem = context.rstrip()
        context, text = stem, context[len(stem) :] + text
        # with the special tokens that the tokenizer adds by itself
        before = self._tokenize(self.text(context), with_special=True) if context else []
        ids = self._tokenize(self.text(context + text), with_special=bool(context))
        is_spanned = ids[: len(before)] != before
        if text and len(ids) <= len(before):
            raise EvaluationError(
                "a context swallows what is scored after it: together they have no more tokens "
                "than the context alone; begin the continuation with a space, or change the prompt"
            )
        owners = [-1] * len(before) + [0] * (len(ids) - len(before))
        return self._request(ids, owners, 1), is_spanned

    def _request(self, ids: list[int], owners: list[int], num_pieces: int) -> Tokens:
        if owners and owners[0] >= 0:
            start = self.start_id()
            if ids[0] == start:
                owners[0] = -1
            else:
                ids, owners = [start, *ids], [-1, *owners]
        while owners and owners[-1] < 0:  # nothing is predicted from here on
            ids.pop()
            owners.pop()
        self._check_window(len(ids) - 1)
        return Tokens(tuple(ids), tuple(owners), num_pieces)

    def start_id(self) -> int:
        """Return the token that a text without context stands on: BOS, else EOS.

        Raises:
            EvaluationError: if the tokenizer has neither.
        """
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise EvaluationError(
            "a text without context cannot be scored: the tokenizer has neither BOS nor EOS"
        )

    @property
    def window(self) -> int | None:
        """The model's context window in tokens, prompt and reply together; None if unbounded."""
        config = self.model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None)

    def count_tokens(self, prompt: str) -> int:
        """Return the length of a prompt of `prompt` in tokens."""
        return len(self._tokenize(prompt))

    def _check_window(self, num_tokens: int) -> None:
        window = self.window
        if window is not None and num_tokens > window:
            raise EvaluationError(
                f"an item needs {num_tokens} tokens, and the model's context window has {window}; "
                "shorten or drop the longest items of the evaluation data"
            )

    @property
    def _pad_id(self) -> int:
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return int(next(token for token in ids if token is not None))
