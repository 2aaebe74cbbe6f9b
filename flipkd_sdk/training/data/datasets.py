"""What a training step sees: token ids, the teacher's vectors, and for pairs their labels.

Every text is tokenized and shown to the teacher once; datasets and batches refer to it by its position in the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from flipkd_sdk.training.distributed import share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from flipkd_sdk.pairs import Pairs
    from flipkd_sdk.training.data.tokens import TokenizedTexts
    from flipkd_sdk.training.prompts import Prompts


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """All texts of a run, with what the teacher says of each; after them altered copies for the alignment stage."""

    position: dict[str, int]
    """Of each text; copies are not named."""
    tokens: TokenizedTexts
    teacher: Tensor | None
    """The teacher's unit vectors, float32 (n, d); None where it gives scores of pairs alone, or there is none."""
    target: Tensor | None
    """The same in the student's r dimensions, float32 (n, r)."""

    def batch(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Tokens, teacher vectors and targets where there are such, and the positions themselves as ``text``.

        Of several processes each gets the tokens of its `share` alone.
        """
        index = torch.tensor(positions, dtype=torch.int64)
        batch = {**self.tokens.batch(share(positions)), "text": index}
        if self.teacher is not None:
            batch["teacher"] = self.teacher[index]
        if self.target is not None:
            batch["target"] = self.target[index]
        return batch

    def teacher_scores(self, pairs: Pairs) -> NDArray[np.float32] | None:
        """What the teacher says of each pair, float32 (n,): its cosines or its scores; None without a teacher."""
        if self.teacher is None:
            return pairs.teacher_score
        a, b = (self.teacher[[self.position[text] for text in side]] for side in (pairs.a, pairs.b))
        return (a * b).sum(dim=1).numpy()


class TextDataset(Dataset[int]):
    """All texts of a corpus, and the copies; an item is a position."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.lengths = [len(ids) for ids in corpus.tokens.token_ids]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, items: Sequence[int]) -> dict[str, Tensor]:
        """A batch of the alignment stage."""
        return self.corpus.batch(items)


class PairDataset(Dataset[int]):
    """Labelled pairs of a corpus; an item is a pair's row.

    Args:
        corpus: holds the texts of the pairs.
        pairs: n labelled pairs.
        keep: which of them the noise filter leaves in the label terms, shape (n,).
        prompts: the n pairs prompted, where the decoder path is trained too.
    """

    def __init__(self, corpus: Corpus, pairs: Pairs, keep: NDArray[np.bool_], prompts: Prompts | None = None) -> None:
        self.corpus = corpus
        self.a, self.b = ([corpus.position[text] for text in side] for side in (pairs.a, pairs.b))
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
        """A batch of the label stage: the k first texts, then the k second ones, with ``label`` and ``keep`` (k,).

        ``row`` (k,) says which pairs they are. With the teacher's scores also ``teacher_score`` (k,); with prompts
        ``prompt_ids`` and ``prompt_mask`` (k, seq), and ``word`` (k,), the token of each label word. Of several
        processes each gets the tokens of its `share` alone.
        """
        rows = list(items)
        texts = self.corpus.batch([*(self.a[i] for i in rows), *(self.b[i] for i in rows)])
        batch = {**texts, "row": torch.tensor(rows), "label": self.label[rows], "keep": self.keep[rows]}
        if self.teacher_score is not None:
            batch["teacher_score"] = self.teacher_score[rows]
        if self.prompts is not None:
            batch |= self.prompts.batch(share(rows))
            batch["word"] = torch.tensor(self.prompts.words)[batch["label"]]
        return batch
