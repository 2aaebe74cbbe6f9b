"""Engine that scores on a pool of Ray actors, here or on the cluster that ``RAY_ADDRESS`` names.

This process reads and writes the rows, so the output is the same as without Ray; only texts and scores are sent. Ray
restarts an actor that died and repeats its task, and a task's scores are fetched once.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

# This precedes the import of ray, which reports its use over the network by default.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import RayActorError, RayTaskError

from flipkd_sdk.cli.scoring.local_engine import identity_of, pair_familiarity
from flipkd_sdk.errors import ExecutionError, FlipKDError
from flipkd_sdk.runtimes.encoding.inputs import distinct_texts
from flipkd_sdk.runtimes.linkage.decide import LocalDecider
from flipkd_sdk.runtimes.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from flipkd_sdk.cli.scoring.loop import Scored
    from flipkd_sdk.cli.tables.sources import Chunk
    from flipkd_sdk.evaluation.calibration import Calibration

Task = TypeVar("Task")

_CHUNK_ROWS = 1024
"""Rows of a chunk; few, so that the last chunks of a table do not leave most of the actors idle."""
_QUEUED = 2
"""Chunks per actor: one in progress, and one that waits so that the actor does not."""
_RESTARTS = 5
"""Restarts of an actor before its work counts as the cause."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options with which each actor loads the matcher; see `Matcher.load`."""

    device: str
    precision: str
    threads: int
    cache_size: int
    on_blank: Literal["zero", "score"]
    head: bool = True


@dataclass(frozen=True, slots=True)
class MatcherProperties:
    """Properties of the matcher that the actors have loaded."""

    dimension: int
    calibration: Calibration
    search_threshold: float | None
    has_head: bool


class Worker:
    """Actor with a matcher, which is loaded when first used, so that an error of loading is a task's error."""

    def __init__(self, directory: str, options: WorkerOptions) -> None:
        self._directory = directory
        self._options = options

    def describe(self) -> tuple[float, Mapping[str, str]]:
        """Return the threshold, and all that decides the scores."""
        return self._matcher.threshold, identity_of(self._matcher, self._options.on_blank)

    def properties(self) -> MatcherProperties:
        """Return what searches need of the matcher."""
        found = self._matcher
        return MatcherProperties(found.dimension, found.calibration, found.search_threshold, found.has_head)

    def score(self, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the scores of pairs, shape (n,)."""
        return self._matcher.score_pairs(pairs)

    def explain(self, pairs: list[tuple[str, str]]) -> list[str]:
        """Return the explanation of each pair."""
        return [self._matcher.explain(*pair).to_text() for pair in pairs]

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of distinct texts, shape (n, d), and keep their tokens for `score_encoded`."""
        return self._decider.encode(distinct_texts(texts))

    def score_encoded(self, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the scores of pairs of texts that are in many pairs, shape (n,)."""
        return self._decider.score_pairs(pairs)

    def truncated(self) -> int:
        """Return the number of texts cut so far."""
        return self._matcher.truncated_texts

    def familiarity(self, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the familiarity of each pair's less familiar text, shape (n,)."""
        return pair_familiarity(self._matcher, pairs)

    @cached_property
    def _matcher(self) -> Matcher:
        return Matcher.load(self._directory, **asdict(self._options))

    @cached_property
    def _decider(self) -> LocalDecider:
        return LocalDecider(self._matcher)


class RayEngine:
    """Engine on a pool of actors, each of which has loaded the matcher; see `ray_engine`."""

    chunk_rows = part_rows = _CHUNK_ROWS

    def __init__(self, workers: list[Any]) -> None:
        self._workers = workers
        described = _result(workers[0].describe.remote())
        self.threshold: float = described[0]
        self.identity: Mapping[str, str] = described[1]

    def scored(self, chunks: Iterable[Chunk]) -> Iterator[Scored]:
        """Implement `Engine.scored`."""
        return self.mapped("score", ((chunk, chunk.pairs) for chunk in chunks))

    def properties(self) -> MatcherProperties:
        """Return what searches need of the matcher."""
        found: MatcherProperties = _result(self._workers[0].properties.remote())
        return found

    @property
    def truncated(self) -> int:
        """Return the number of texts cut so far, by actors that still run."""
        return sum(_result(worker.truncated.remote()) for worker in self._workers)

    @property
    def queued(self) -> int:
        """Return the number of tasks that keep all actors busy."""
        return _QUEUED * len(self._workers)

    def mapped(self, method: str, tasks: Iterable[tuple[Task, list[Any]]]) -> Iterator[tuple[Task, Any]]:
        """Call a method of the actors for each task; yields the tasks with the results, in order.

        Args:
            method: name of a method of `Worker`.
            tasks: anything, and the argument.
        """
        waiting: deque[tuple[Task, Any]] = deque()
        worker_of: dict[Any, int] = {}
        load = [0] * len(self._workers)
        for task, argument in tasks:
            while len(worker_of) >= self.queued:
                for done in ray.wait(list(worker_of))[0]:
                    load[worker_of.pop(done)] -= 1
            chosen = min(range(len(load)), key=load.__getitem__)
            future = getattr(self._workers[chosen], method).remote(argument)
            load[chosen] += 1
            worker_of[future] = chosen
            waiting.append((task, future))
            # Results are yielded in order, so the limit bounds what waits for a slow actor.
            while waiting and (waiting[0][1] not in worker_of or len(waiting) > 4 * self.queued):
                yield waiting[0][0], _result(waiting[0][1])
                waiting.popleft()
        for task, future in waiting:
            yield task, _result(future)

    def explain(self, pairs: list[tuple[str, str]]) -> list[str]:
        """Implement `Engine.explain`."""
        parts = [pairs[worker :: len(self._workers)] for worker in range(len(self._workers))]
        running = [worker.explain.remote(part) for worker, part in zip(self._workers, parts, strict=True)]
        explained = [""] * len(pairs)
        for worker, future in enumerate(running):
            explained[worker :: len(self._workers)] = _result(future)
        return explained

    def familiarity(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Implement `Engine.familiarity`."""
        found: NDArray[np.float32] = _result(self._workers[0].familiarity.remote(list(pairs)))
        return found


@contextmanager
def ray_engine(directory: str, options: WorkerOptions, *, workers: int | None) -> Iterator[RayEngine]:
    """Start a pool of actors in the running Ray, in the cluster of ``RAY_ADDRESS``, or in a new local Ray.

    Args:
        directory: the matcher directory, under a path that every machine has.
        options: how each actor loads it. On CUDA an actor gets one GPU, on the CPU as many CPUs as it has threads.
        workers: number of actors; None for as many as fit.

    Raises:
        ExecutionError: no actor fits, or the actors keep dying.
        FlipKDError: as `Matcher.load` raises.
    """
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    actors: list[Any] = []
    try:
        on_gpu = options.device.startswith("cuda")
        kind, each = ("GPU", 1) if on_gpu else ("CPU", options.threads)
        resources: Callable[[], Mapping[str, float]] = ray.cluster_resources
        room = int(resources().get(kind, 0) // each)
        if room < (workers or 1):
            raise ExecutionError(
                f"Ray has room for {room} workers of {each} {kind} each; lower --workers or --threads, or name a "
                "larger cluster in RAY_ADDRESS"
            )
        actor = ray.remote(
            num_cpus=0 if on_gpu else options.threads,
            num_gpus=1 if on_gpu else 0,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )(Worker)
        actors += [actor.remote(directory, options) for _ in range(workers or room)]
        yield RayEngine(actors)
    finally:
        for running in actors:
            ray.kill(running)
        if started:
            ray.shutdown()


def _result(future: Any) -> Any:  # noqa: ANN401 - ray's futures have no types here
    try:
        return ray.get(future)
    except RayTaskError as error:
        if isinstance(error.cause, FlipKDError):
            raise error.cause from error
        raise
    except RayActorError as error:
        cause = getattr(error, "cause", None)
        raise ExecutionError(
            f"a Ray worker died more than {_RESTARTS} times, or could not start: {cause or error}"
        ) from error
