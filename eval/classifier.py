"""Models that are asked for classes: one with a head for them, and one that is asked in words.

B texts, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.batching import Steps, batches, pad, quiet
from eval.cache import Cache, Found, remember
from eval.control_tokens import tokenize_text
from eval.errors import EvaluationError
from eval.model import LanguageModel
from eval.scoring import finite, inference
from eval.task import Progress


class Classifier:
    """A model with a classification head."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: tuple[str, ...],
        *,
        is_multi_label: bool = False,
        max_length: int | None = None,
        max_tokens_per_batch: int = 8192,
        cache: Cache | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: for sequence classification, with or without an adapter.
            tokenizer: its own.
            labels: names of the classes, in the order of the model's outputs.
            is_multi_label: whether several classes may hold at once.
            max_length: longer texts are cut there, as they were in training; without it, at the
                model's context window.
            max_tokens_per_batch: padded tokens in one forward pass; only memory and speed.
            cache: where answers outlive the process; none keeps them in memory.

        Raises:
            EvaluationError: if the model has another number of classes.
        """
        if model.config.num_labels != len(labels):
            raise EvaluationError(
                f"the model tells {model.config.num_labels} classes apart, and the data has "
                f"{len(labels)} labels; evaluate with the labels it was trained on"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.labels = labels
        self.is_multi_label = is_multi_label
        self.cache = cache if cache is not None else Cache(None, "")
        text_config = model.config.get_text_config()
        self._max_length = max_length or getattr(text_config, "max_position_embeddings", None)
        self._max_tokens = max_tokens_per_batch
        self.num_tokens = 0
        """Of all texts read so far."""

    def probabilities(
        self, texts: Sequence[str], progress: Progress = quiet
    ) -> NDArray[np.float64]:
        """Return P(label | text), shape (texts, labels); rows sum to 1 unless multi-label.

        Raises:
            EvaluationError: if the model gives no finite number.
        """

        def compute(distinct: Sequence[int], missing: Collection[int]) -> Found:
            tokens = [self._encode(texts[i]) for i in distinct]
            # without a padding token the model cannot tell where a text ends
            at_once = 1 if self.model.config.get_text_config().pad_token_id is None else None
            for batch in batches(
                [len(ids) for ids in tokens], max_tokens=self._max_tokens, max_requests=at_once
            ):
                if not any(distinct[place] in missing for place in batch):
                    continue
                rows = self._read([tokens[place] for place in batch])
                self.num_tokens += sum(len(tokens[place]) for place in batch)
                yield [(distinct[place], row) for place, row in zip(batch, rows, strict=True)]

        parameters = [list(self.labels), self.is_multi_label, self._max_length]
        found = remember(self.cache, "classify", list(texts), parameters, compute, progress)
        return np.array(found, dtype=np.float64).reshape(len(texts), len(self.labels))

    def _encode(self, text: str) -> list[int]:
        # cut by the tokenizer: what it puts around the text (a start token, a prompt) stays whole
        ids = tokenize_text(self.tokenizer, text, max_length=self._max_length)
        return ids or [self.tokenizer.eos_token_id]

    def _read(self, tokens: list[list[int]]) -> list[list[float]]:
        pad_id = self.model.config.get_text_config().pad_token_id
        ids_BT, mask_BT = pad(tokens, pad_id or 0, self.model.device)
        with inference(self.model):
            logits_BC = self.model(input_ids=ids_BT, attention_mask=mask_BT).logits
        logits_BC = logits_BC.cpu().double()  # there: Apple's GPU has no float64
        p_BC = logits_BC.sigmoid() if self.is_multi_label else logits_BC.softmax(1)
        return [[finite(p) for p in row] for row in p_BC.tolist()]


class SimilarityClassifier:
    """An encoder that was not trained on the labels: the label whose name is most like the text."""

    is_multi_label = False

    def __init__(
        self,
        embed: Callable[[Sequence[str], Progress], NDArray[np.float64]],
        labels: tuple[str, ...],
        *,
        cache: Cache | None = None,
    ) -> None:
        """Take an encoder as a classifier.

        Args:
            embed: one vector a text, shape (texts, width).
            labels: names of the classes; an underscore in a name is read as a space.
            cache: where answers outlive the process; none keeps them in memory.
        """
        self.labels = labels
        self.cache = cache if cache is not None else Cache(None, "")
        self.num_tokens = 0
        self._embed = embed
        self._names = [" ".join(label.replace("_", " ").split()) for label in labels]

    def probabilities(
        self, texts: Sequence[str], progress: Progress = quiet
    ) -> NDArray[np.float64]:
        """Return P(label | text), shape (texts, labels); rows sum to 1.

        It is the softmax over labels of 20 times the cosine between text and name, the scale at
        which sentence encoders are trained. These are no calibrated probabilities.
        """
        names = _to_unit_length(self._embed(self._names, quiet))
        logits = 20 * _to_unit_length(self._embed(texts, progress)) @ names.T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(p / p.sum(axis=1, keepdims=True), dtype=np.float64)


def _to_unit_length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float64)


class ZeroShotClassifier:
    """A language model that was not trained on the labels, asked for the likeliest name of one."""

    is_multi_label = False

    def __init__(
        self, language_model: LanguageModel, labels: tuple[str, ...], instruction: str
    ) -> None:
        """Take a language model as a classifier.

        Args:
            language_model: the model that is asked.
            labels: names of the classes; an underscore in a name is read as a space.
            instruction: what to do, put before each text.
        """
        self.labels = labels
        self.cache = language_model.cache
        self._language_model = language_model
        self._names = [" ".join(label.replace("_", " ").split()) for label in labels]
        self._instruction = instruction

    @property
    def num_tokens(self) -> int:
        """Of all requests answered so far."""
        return self._language_model.num_tokens

    def probabilities(
        self, texts: Sequence[str], progress: Progress = quiet
    ) -> NDArray[np.float64]:
        """Return P(label | text), shape (texts, labels); rows sum to 1.

        It is the softmax over labels of the mean log-likelihood per token of the label's name, as
        the reply to instruction and text. These are no calibrated probabilities.
        """
        pairs = [
            pair
            for text in texts
            for pair in self._language_model.pairs(
                [{"role": "user", "content": f"{self._instruction}\n\nText: {text}\nLabel:"}],
                self._names,
            )
        ]
        steps = Steps(progress, num_requests=len(pairs), num_items=len(texts))
        found = self._language_model.loglikelihoods(pairs, steps)
        scores = np.array([ll.per_token for ll in found]).reshape(len(texts), len(self.labels))
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(p / p.sum(axis=1, keepdims=True), dtype=np.float64)
