"""`Scorer`: an open matcher directory, and how its encoder and its pair head score texts."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

from flipkd_sdk.errors import MatcherClosedError
from flipkd_sdk.evaluation.cosines import pair_cosines
from flipkd_sdk.runtimes.encoding.inputs import distinct_of_pairs
from flipkd_sdk.runtimes.encoding.vector_cache import VectorCache
from flipkd_sdk.runtimes.load import LoadOptions, OpenMatcher, load_sketch, open_matcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from flipkd_sdk.artifact.familiarity import Sketch
    from flipkd_sdk.artifact.manifest import Manifest
    from flipkd_sdk.evaluation.calibration import Calibration
    from flipkd_sdk.runtimes.encoding.encoder import Encoded, Progress
    from flipkd_sdk.runtimes.encoding.inputs import DistinctTexts

_logger = logging.getLogger("flipkd_sdk")

_CACHED_CANDIDATES = 1024
"""Candidates whose tokens are kept for the pair head: some ten megabytes of short texts."""


class Scorer:
    """The model behind a `Matcher`: encodes distinct texts, scores pairs of them and counts what it meets.

    For code that joins calls or keeps vectors, such as `MicroBatcher` and `CandidateSet`; safe to share between
    threads. A forked child opens the directory again when it first uses it.

    Args:
        directory: the matcher directory, absolute.
        options: the checked options of `Matcher.load`.
        expected: the manifest at the first opening, if the directory is opened again in another process.
    """

    def __init__(self, directory: Path, options: LoadOptions, expected: Manifest | None = None) -> None:
        self.directory = directory
        self.options = options
        self._opened: OpenMatcher | None = open_matcher(directory, options, expected)
        self.manifest: Manifest = self._opened.manifest
        self.truncated_texts = 0
        self.blank_texts = 0
        self._counting = threading.Lock()
        self._candidate_cache: VectorCache | None = None
        self._sketch: Sketch | None = None

    @property
    def sketch(self) -> Sketch:
        """Return the sketch of the training texts, read on first use.

        Raises:
            ConfigError: the directory has none.
            MatcherDirectoryError: its file is missing, changed or malformed.
        """
        if self._sketch is None:
            self._sketch = load_sketch(self.directory, self.manifest)
        return self._sketch

    @property
    def calibration(self) -> Calibration:
        """Return the map from cosines to match probabilities, with its threshold."""
        return self.manifest.calibration

    @property
    def pair_calibration(self) -> Calibration:
        """Return the calibration of pairs: the pair head's, or without one the cosine's."""
        return self.manifest.pair_calibration if self.options.head else self.manifest.calibration

    @property
    def has_head(self) -> bool:
        """Return True if a pair head decides on pairs."""
        return self.options.head and self.manifest.head is not None

    @property
    def identity(self) -> str:
        """Return a hash of everything that vectors depend on: the model, the tokenizer and the way of computing.

        Vectors of matchers with the same identity can be compared. The calibration is no part of it.
        """
        import hashlib

        from flipkd_sdk.artifact.manifest import SCORING_VERSION

        tokenizer, variant = self.manifest.tokenizer, self.manifest.variant(self.opened().precision)
        parts = (variant.sha256, tokenizer.sha256, tokenizer.max_length, tokenizer.empty_token_id, SCORING_VERSION)
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()

    def encode_distinct(
        self, distinct: DistinctTexts, batch_size: int | None = None, *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return unit vectors of ``distinct.texts``, shape (distinct, d), and count; raise the errors of `encode`."""
        return self._encode(distinct, batch_size, progress=progress).vectors

    def encode_pairs(
        self,
        distinct: DistinctTexts,
        batch_size: int | None = None,
        *,
        cache: VectorCache | None = None,
        progress: Progress | None = None,
    ) -> Encoded:
        """Return vectors of ``distinct.texts``, and with a pair head their tokens, for `pair_scores`.

        ``cache`` is used where the matcher has none of its own.
        """
        return self._encode(distinct, batch_size, with_tokens=self.has_head, cache=cache, progress=progress)

    def _encode(
        self,
        distinct: DistinctTexts,
        batch_size: int | None = None,
        *,
        with_tokens: bool = False,
        cache: VectorCache | None = None,
        progress: Progress | None = None,
    ) -> Encoded:
        encoder = self.opened().encoder
        encoded = encoder.encode(distinct, max_rows=batch_size, with_tokens=with_tokens, cache=cache, progress=progress)
        blank = sum(map(_is_blank, distinct.texts))
        if encoded.cut or blank:
            with self._counting:
                self.truncated_texts += encoded.cut
                self.blank_texts += blank
        if encoded.cut and self.options.on_truncate == "warn":
            _logger.warning(
                "%d of %d distinct texts are longer than the %d tokens that this matcher reads and were cut off",
                encoded.cut,
                len(distinct.texts),
                encoder.tokenizer.max_length,
            )
        return encoded

    def pair_scores(
        self, texts: Sequence[str], encoded: Encoded, a: NDArray[np.int64], b: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the match probability of ``texts[a[i]]`` and ``texts[b[i]]`` for each i, shape (n,).

        Args:
            texts: distinct texts.
            encoded: from `encode_pairs`.
            a: indices of texts, shape (n,).
            b: indices of texts, shape (n,).
        """
        scores = self.pair_calibration.probability(self.pair_values(texts, encoded, a, b))
        never = self.never_match(texts)
        if never.any():
            scores[never[a] | never[b]] = 0.0
        return scores

    def pair_values(
        self, texts: Sequence[str], encoded: Encoded, a: NDArray[np.int64], b: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return what `pair_calibration` maps to scores: the pair head's numbers, or without one the cosines."""
        cosines = pair_cosines(encoded.vectors, a, b)
        head = self.opened().head
        if head is None or encoded.tokens is None:
            return cosines
        return head.logits(texts, encoded.tokens, a, b, cosines)

    def scores_of(self, query: str, candidates: Sequence[str]) -> NDArray[np.float32]:
        """Return the score of a query with each of a few candidates, shape (n,).

        The latest candidates are kept encoded, because the same ones are proposed again and again.
        """
        if self._candidate_cache is None:
            self._candidate_cache = VectorCache(_CACHED_CANDIDATES)
        distinct = distinct_of_pairs((query, candidate) for candidate in candidates)
        encoded = self._encode(distinct, with_tokens=self.has_head, cache=self._candidate_cache)
        return self.pair_scores(distinct.texts, encoded, distinct.index[0::2], distinct.index[1::2])

    def never_match(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return True for each text whose pairs all score 0.0, shape (n,); see ``on_blank`` of `load`."""
        if self.options.on_blank == "score":
            return np.zeros(len(texts), dtype=np.bool_)
        return np.fromiter(map(_is_blank, texts), np.bool_, len(texts))

    def opened(self) -> OpenMatcher:
        """Return the open directory; raise `MatcherClosedError` after `close`."""
        opened = self._opened
        if opened is None:
            raise MatcherClosedError("this matcher was closed; load it again with Matcher.load")
        if opened.encoder.session.inherited:
            # Two threads of a forked child may both come here; either session serves.
            opened = self._opened = open_matcher(self.directory, self.options, self.manifest)
        return opened

    def close(self) -> None:
        """Release the model; calls still running in other threads finish."""
        self._opened = None

    def __repr__(self) -> str:
        opened = self._opened
        state = "closed" if opened is None else f"device={opened.device!r}, precision={opened.precision!r}"
        return f"<Matcher {str(self.directory)!r}, {state}>"


def _is_blank(text: str) -> bool:
    """Return True for an empty text and for white space alone."""
    # Unlike strip(), isspace() copies nothing of a huge text.
    return not text or text.isspace()
