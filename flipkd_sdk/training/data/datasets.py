"""Datasets of the two stages: texts for the alignment, labelled pairs for the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from flipkd_sdk.training.distributed import local_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.data.corpus import Corpus
    from flipkd_sdk.training.tokens import TokenizedTexts


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Prompted pairs as token ids, each up to the position of the label word."""

    tokens: TokenizedTexts
    words: tuple[int, int]
    """First token in which the label words differ: that of "no", that of "yes"."""

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return ``prompt_ids`` and ``prompt_mask``, int64 (batch, seq), padded on the left: each prompt ends last."""
        padded = self.tokens.batch(rows, left=True)
        return {"prompt_ids": padded["input_ids"], "prompt_mask": padded["attention_mask"]}


class TextDataset(Dataset[int]):
    """All texts of a corpus and the altered copies; an item is an index."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.lengths = [len(ids) for ids in corpus.tokens.token_ids]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, items: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch of the alignment stage."""
        return self.corpus.batch(items)


class PairDataset(Dataset[int]):
    """Labelled pairs of a corpus; an item is the row of a pair.

    Args:
        corpus: contains the texts of the pairs.
        pairs: n labelled pairs.
        keep: pairs that the noise filter leaves in the label terms, shape (n,).
        prompts: the n pairs prompted, if the decoder path is trained.
    """

    def __init__(self, corpus: Corpus, pairs: Pairs, keep: NDArray[np.bool_], prompts: Prompts | None = None) -> None:
        self.corpus = corpus
        self.a, self.b = ([corpus.index[text] for text in side] for side in (pairs.a, pairs.b))
        self.label = torch.from_numpy(pairs.label.astype(np.int64))
        self.keep = torch.from_numpy(np.asarray(keep, dtype=bool))
        self.teacher_score = None if pairs.teacher_score is None else torch.from_numpy(pairs.teacher_score)
        self.prompts = prompts
        ids = corpus.tokens.token_ids
        self.lengths = [max(len(ids[a]), len(ids[b])) for a, b in zip(self.a, self.b, strict=True)]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, items: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch of the label stage: the k first texts, then the k second ones.

        The batch has ``row``, ``label`` and ``keep`` (k,) beside the entries of `Corpus.batch`; with a teacher of
        scores also ``teacher_score`` (k,); with prompts ``prompt_ids`` and ``prompt_mask`` (k, seq) and ``word`` (k,),
        the token of each label word. With several processes each gets the tokens of its rows alone.
        """
        rows = list(items)
        texts = self.corpus.batch([*(self.a[i] for i in rows), *(self.b[i] for i in rows)])
        batch = {**texts, "row": torch.tensor(rows), "label": self.label[rows], "keep": self.keep[rows]}
        if self.teacher_score is not None:
            batch["teacher_score"] = self.teacher_score[rows]
        if self.prompts is not None:
            batch |= self.prompts.batch(local_rows(rows))
            batch["word"] = torch.tensor(self.prompts.words)[batch["label"]]
        return batch
