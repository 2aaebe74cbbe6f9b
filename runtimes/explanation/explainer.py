"""`Explainer`: runs a matcher's graph with an output for each token."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipkd_sdk.errors import ConfigError, TextTooLongError
from flipkd_sdk.evaluation.cosines import pair_cosines
from flipkd_sdk.runtimes.encoding.batching import plan_batches
from flipkd_sdk.runtimes.encoding.encoder import Encoded, pad
from flipkd_sdk.runtimes.encoding.text_tokens import TextTokens
from flipkd_sdk.runtimes.explanation.decomposition import contributions, merged, token_shares
from flipkd_sdk.runtimes.explanation.explanation import Alignment, Explanation
from flipkd_sdk.runtimes.explanation.graph import token_parts
from flipkd_sdk.runtimes.explanation.words import words_of
from flipkd_sdk.runtimes.load import checked_model, session_threads
from flipkd_sdk.runtimes.onnx.session import OUTPUT, SECOND_OUTPUT, TOKEN_PARTS, open_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts
    from flipkd_sdk.runtimes.explanation.explanation import Word
    from flipkd_sdk.runtimes.scorer import Scorer

_MOST_ROUNDING = 0.02
"""Largest distance of a text's vector from the sum of its tokens: float16 rounds by 0.001."""


class _Text(NamedTuple):
    words: tuple[Word, ...]
    starts: list[int]
    """First token of each word."""
    shares: NDArray[np.float64]
    """Shape (tokens, d)."""


class Explainer:
    """A second session of an open matcher, whose graph also returns A·h of each token.

    Args:
        scorer: the open matcher.

    Raises:
        ConfigError: the graph does not pool by a mean over tokens.
        MatcherDirectoryError: the model's file has changed.
    """

    def __init__(self, scorer: Scorer) -> None:
        directory, options, opened = scorer.directory, scorer.options, scorer.opened()
        manifest = opened.manifest
        if manifest.encoder.pooling != "mean":
            raise ConfigError(
                f"{directory}: the vector of a text is that of its last token, which words do not add up to; for "
                "explanations train with pooling = 'mean'"
            )
        model = checked_model(directory, manifest, opened.precision)
        appended = token_parts(model.read_bytes())
        if appended is None:
            raise ConfigError(
                f"{model}: its graph has no sum over tokens that explanations could read; export it again"
            )
        self.opened = opened
        self._scorer = scorer
        self._model = model
        self._refuse_long = options.on_truncate == "error"
        self._outputs = [OUTPUT, TOKEN_PARTS] if opened.head is None else [OUTPUT, TOKEN_PARTS, SECOND_OUTPUT]
        self._session = open_session(
            model,
            device=opened.device,
            threads=session_threads(options),
            dimension=manifest.encoder.dimension,
            token_dimension=None if manifest.head is None else manifest.head.dimension,
            gpu_mem_limit=options.gpu_mem_limit,
            appended=appended,
        )

    def explain(self, distinct: DistinctTexts, background: NDArray[np.float32] | None) -> Explanation:
        """Return the explanation of a pair; errors as for `Matcher.explain`."""
        encoded, texts = self._run(distinct)
        left, right = (texts[index] for index in distinct.index)
        mean = np.zeros(encoded.vectors.shape[1]) if background is None else _background(background, encoded.vectors)
        values, baseline = contributions(left.shares, right.shares, mean)
        a, b = distinct.index[:1], distinct.index[1:]
        alignment = None
        if self.opened.head is not None and encoded.tokens is not None:
            shares = self.opened.head.alignment(encoded.tokens[int(a[0])], encoded.tokens[int(b[0])])
            alignment = _by_words(*shares, left.starts, right.starts)
        return Explanation(
            a=distinct.texts[int(a[0])],
            b=distinct.texts[int(b[0])],
            score=float(self._scorer.pair_scores(distinct.texts, encoded, a, b)[0]),
            threshold=self._scorer.pair_calibration.threshold,
            cosine=float(pair_cosines(encoded.vectors, a, b)[0]),
            baseline=baseline,
            words_a=left.words,
            words_b=right.words,
            contributions=merged(values, left.starts, right.starts),
            alignment=alignment,
        )

    def _run(self, distinct: DistinctTexts) -> tuple[Encoded, list[_Text]]:
        tokenizer = self.opened.encoder.tokenizer
        tokenized = [tokenizer.encode_with_spans(text) for text in distinct.texts]
        cut = [i for i, (tokens, _) in enumerate(tokenized) if tokens.was_cut]
        if cut and self._refuse_long:
            raise TextTooLongError(
                f"{distinct.name_of(cut[0])}: longer than the {tokenizer.max_length} tokens that this matcher reads; "
                "shorten it, or load with on_truncate='warn'"
            )
        vectors = np.empty((len(tokenized), self.opened.encoder.dimension), dtype=np.float32)
        texts: dict[int, _Text] = {}
        head_tokens: dict[int, TextTokens] = {}
        lengths = [len(tokens.ids) for tokens, _ in tokenized]
        for batch in plan_batches(lengths, max_length=tokenizer.max_length, max_tokens=2 * tokenizer.max_length):
            ids, mask = pad([tokenized[row][0].ids for row in batch.rows], batch.width, tokenizer.padding_id)
            outputs = self._session.run_outputs(self._outputs, ids, mask)
            parts = outputs[1].reshape(*ids.shape, -1)
            for place, row in enumerate(batch.rows):
                (tokens, spans), length = tokenized[row], lengths[row]
                vectors[row] = outputs[0][place]
                shares, rounding = token_shares(parts[place, :length], vectors[row])
                if not rounding <= _MOST_ROUNDING:
                    raise ConfigError(
                        f"{self._model}: the vector of a text is not the sum of its tokens' ({rounding:.2g} away); "
                        "export it again"
                    )
                texts[row] = _Text(*words_of(distinct.texts[row], spans), shares)
                if len(outputs) == 3:
                    head_tokens[row] = TextTokens(tokens.ids, outputs[2][place, :length])
        rows = range(len(tokenized))
        with_head = [head_tokens[row] for row in rows] if head_tokens else None
        return Encoded(vectors, len(cut), with_head), [texts[row] for row in rows]


def _background(background: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    mean = np.asarray(background, dtype=np.float64)
    if mean.shape != vectors.shape[1:] or not np.isfinite(mean).all():
        raise ConfigError(
            f"background must be a finite vector of {vectors.shape[1]} numbers, such as "
            f"matcher.encode(texts).mean(axis=0); its shape is {mean.shape}"
        )
    return mean


def _by_words(
    a_to_b: NDArray[np.float32], b_to_a: NDArray[np.float32], starts_a: list[int], starts_b: list[int]
) -> Alignment:
    """Merge the alignments of tokens to those of words: a word's shares are the mean of its tokens' shares."""

    def means(shares: NDArray[np.float32], rows: list[int], columns: list[int]) -> NDArray[np.float32]:
        sizes = np.diff([*rows, len(shares)])[:, None]
        return np.asarray(merged(shares.astype(np.float64), rows, columns) / sizes, dtype=np.float32)

    forward, backward = means(a_to_b, starts_a, starts_b), means(b_to_a, starts_b, starts_a)
    return Alignment(forward, backward, 1 - forward.sum(axis=1), 1 - backward.sum(axis=1))
