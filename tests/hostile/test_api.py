"""Arguments of wrong types, in every public method: one clear error of the package, or a result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny import TEXTS

from flipkd_sdk import AsyncMatcher, CandidateSet, FlipKDError, Matcher, MicroBatcher
from flipkd_sdk.errors import ConfigError, InvalidTextError
from flipkd_sdk.runtimes.serving.dataframes import PairScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JUNK = {
    "None": None,
    "True": True,
    "-1": -1,
    "2.0": 2.0,
    "nan": float("nan"),
    "2**80": 2**80,
    "str": "1",
    "null character": "a\0b",
    "bytes": b"a",
    "list": [["a"]],
    "dict": {1: 2},
    "set": {"a"},
    "object": object(),
    "array": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "function": len,
    "class": Matcher,
}


class Api:
    """One call a parameter; each takes the value for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.matcher = Matcher.load(directory, on_truncate="ignore")
        self.candidates = self.matcher.candidates(TEXTS)
        self.batcher = MicroBatcher(self.matcher)

    def calls(self) -> dict[str, Callable[[Any], object]]:
        matcher, candidates, batcher = self.matcher, self.candidates, self.batcher
        scorer = PairScorer(self.directory)
        of_load = ("device", "precision", "max_batch_tokens", "gpu_mem_limit", "cache_size", "on_truncate", "on_blank")
        return {
            "Matcher": Matcher,
            "load directory": Matcher.load,
            **{f"load {name}": lambda value, name=name: self.load(**{name: value}) for name in of_load},
            "score a": lambda value: matcher.score(value, "a"),
            "score b": lambda value: matcher.score("a", value),
            "is_match": lambda value: matcher.is_match("a", value),
            "score_pairs": matcher.score_pairs,
            "score_pairs one": lambda value: matcher.score_pairs([("a", "b"), value]),
            "score_pairs batch_size": lambda value: matcher.score_pairs([("a", "b")], batch_size=value),
            "score_matrix a": lambda value: matcher.score_matrix(value, ["a"]),
            "score_matrix b": lambda value: matcher.score_matrix(["a"], value),
            "rank query": lambda value: matcher.rank(value, ["a"]),
            "rank candidates": lambda value: matcher.rank("a", value),
            "rank top_k": lambda value: matcher.rank("a", ["b"], top_k=value),
            "rank score_cutoff": lambda value: matcher.rank("a", ["b"], score_cutoff=value),
            "candidates": matcher.candidates,
            "encode": matcher.encode,
            "set load path": lambda value: CandidateSet.load(value, matcher),
            "set load matcher": lambda value: CandidateSet.load(self.directory, value),
            "set save": lambda value: candidates.save(value) if not isinstance(value, str) else None,
            "set rank": candidates.rank,
            "set rank top_k": lambda value: candidates.rank("a", top_k=value),
            "set rank score_cutoff": lambda value: candidates.rank("a", score_cutoff=value),
            "set rank_many": lambda value: list(candidates.rank_many(value)),
            "set rank_many top_k": lambda value: list(candidates.rank_many(["a"], top_k=value)),
            "set rank_vectors": lambda value: list(candidates.rank_vectors(value)),
            "set rank_vectors texts": lambda value: list(candidates.rank_vectors(matcher.encode(["a"]), texts=value)),
            "set append": matcher.candidates([]).append,
            "set remove": matcher.candidates([]).remove,
            "set remove one": lambda value: matcher.candidates(TEXTS).remove([value]),
            "MicroBatcher": MicroBatcher,
            "batcher max_delay": lambda value: MicroBatcher(matcher, max_delay=value),
            "batcher max_batch_size": lambda value: MicroBatcher(matcher, max_batch_size=value),
            "batcher score": lambda value: batcher.score("a", value),
            "batcher is_match": lambda value: batcher.is_match(value, "a"),
            "batcher rank query": lambda value: batcher.rank(value, candidates),
            "batcher rank candidates": lambda value: batcher.rank("a", value),
            "batcher rank top_k": lambda value: batcher.rank("a", candidates, top_k=value),
            "batcher submit_texts": lambda value: batcher.submit_texts(value).result(60),
            "batcher submit_query": lambda value: batcher.submit_query(value).result(60),
            "AsyncMatcher": AsyncMatcher,
            "async score": lambda value: self.run(lambda served: served.score("a", value)),
            "async is_match": lambda value: self.run(lambda served: served.is_match(value, "a")),
            "async encode": lambda value: self.run(lambda served: served.encode(value)),
            "async rank query": lambda value: self.run(lambda served: served.rank(value, candidates)),
            "async rank candidates": lambda value: self.run(lambda served: served.rank("a", value)),
            "async rank top_k": lambda value: self.run(lambda served: served.rank("a", candidates, top_k=value)),
            "async candidates": lambda value: self.run(lambda served: served.candidates(value)),
            "async score_pairs": lambda value: self.run(lambda served: served.score_pairs(value)),
            "async score_matrix": lambda value: self.run(lambda served: served.score_matrix(value, ["a"])),
            "PairScorer": PairScorer,
            "scorer a_column": lambda value: PairScorer(self.directory, a_column=value),
            "scorer match_column": lambda value: PairScorer(self.directory, match_column=value),
            "scorer cache_size": lambda value: PairScorer(self.directory, cache_size=value),
            "scorer batch": scorer,
            "scorer map": lambda value: list(scorer.map([value])),
            "scorer scores": lambda value: scorer.scores(value, ["a"]),
        }

    def load(self, **options: Any) -> None:
        Matcher.load(self.directory, **options).close()

    def run(self, call: Callable[[AsyncMatcher], Any]) -> object:
        async def use() -> object:
            async with AsyncMatcher(self.matcher) as served:
                return await call(served)

        return asyncio.run(use())


@pytest.fixture(scope="module")
def api(tiny_matcher: Path) -> Iterator[Api]:
    made = Api(tiny_matcher)
    yield made
    made.batcher.close()
    made.matcher.close()


def test_any_value_gives_a_result_or_one_line_of_the_package(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = []
    for name, call in api.calls().items():
        for kind, value in JUNK.items():
            try:
                call(value)
            except FlipKDError as error:
                if not str(error) or "\n" in str(error):
                    raw.append(f"{name} <- {kind}: message {str(error)!r}")
            except Exception as error:  # noqa: BLE001 - any other error is a finding
                raw.append(f"{name} <- {kind}: {type(error).__name__}: {error}")
    assert raw == []
    assert list(tmp_path.iterdir()) == []


MESSAGES: list[tuple[str, Any, type[FlipKDError], str]] = [
    ("Matcher", "faq-matcher", ConfigError, r"use Matcher\.load\(directory"),
    ("load directory", None, ConfigError, "directory must be a path, as str or pathlib.Path; it is None"),
    ("load device", 3, ConfigError, "device must be a str; it is 3"),
    ("load cache_size", "1", ConfigError, "cache_size must be an integer of at least 0; it is '1'"),
    ("load on_blank", "no", ConfigError, "unknown on_blank 'no'; use 'zero' or 'score'"),
    ("score_pairs batch_size", 2.0, ConfigError, "batch_size must be an integer of at least 1, or None for no limit"),
    ("rank top_k", 2.0, ConfigError, r"top_k must be an integer of at least 1, or None for all; it is 2\.0"),
    ("rank score_cutoff", "0.5", ConfigError, "score_cutoff must be a number, or None for any score; it is '0.5'"),
    ("rank score_cutoff", float("nan"), ConfigError, "score_cutoff must be a number"),
    ("score a", None, InvalidTextError, "first text: expected a str, found None"),
    ("async rank candidates", "b", InvalidTextError, "candidates: expected an iterable, found str"),
    ("set load path", None, ConfigError, "path must be a path"),
    ("set load matcher", "faq-matcher", ConfigError, r"matcher must be a Matcher, as Matcher\.load returns"),
    (
        "set rank_vectors",
        [[1.0, float("nan")] + [0.0] * 14],
        ConfigError,
        "queries contain a number that is not finite",
    ),
    ("set remove one", 1.5, ConfigError, r"there is no candidate 1\.5 to remove"),
    ("MicroBatcher", "faq-matcher", ConfigError, "matcher must be a Matcher"),
    ("batcher max_delay", "1", ConfigError, "max_delay must be a number of at least 0; it is '1'"),
    ("scorer a_column", ["a"], ConfigError, "the name of a column must be a str"),
]


@pytest.mark.parametrize(("name", "value", "kind", "message"), MESSAGES)
def test_an_error_names_the_argument_and_the_remedy(
    api: Api, name: str, value: object, kind: type[FlipKDError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        api.calls()[name](value)


@pytest.mark.parametrize("threads", ["1", 1.0, True, -1])
def test_a_number_of_threads_that_is_none_is_refused(tiny_matcher: Path, threads: Any) -> None:
    with pytest.raises(ConfigError, match="threads must be an integer of at least 1, or None for the default"):
        Matcher.load(tiny_matcher, threads=threads)


def test_integers_and_numbers_of_numpy_are_accepted(api: Api) -> None:
    found = api.matcher.rank("a", TEXTS, top_k=np.int64(3), score_cutoff=np.float32(0.1))  # type: ignore[arg-type]
    assert found == api.matcher.rank("a", TEXTS, top_k=3, score_cutoff=0.1)


def test_lists_and_sets_rank_alike_in_every_class(api: Api) -> None:
    expected = api.matcher.rank(TEXTS[0], TEXTS, top_k=4)
    assert api.matcher.rank(TEXTS[0], api.candidates, top_k=4) == expected
    for candidates in (list(TEXTS), api.candidates):
        assert api.batcher.rank(TEXTS[0], candidates, top_k=4) == expected
        assert api.run(lambda served, them=candidates: served.rank(TEXTS[0], them, top_k=4)) == expected


def test_the_threshold_is_the_matcher_s_in_every_class(api: Api) -> None:
    async def use() -> tuple[float, bool]:
        async with AsyncMatcher(api.matcher) as served:
            return served.threshold, await served.is_match("a", "a")

    assert asyncio.run(use()) == (api.matcher.threshold, True)
    assert api.batcher.threshold == api.matcher.threshold
