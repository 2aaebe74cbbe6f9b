"""Measurements of the service, in Prometheus' format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Measurements of one server.

    Args:
        truncated: returns the number of truncated texts so far.
    """

    def __init__(self, truncated: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._seconds = Histogram(
            "flipkd_request_seconds",
            "Time from the headers of a request to the end of its answer",
            ["route", "status"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.batch = Histogram(
            "flipkd_batch_calls", "Calls in a run of the model", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.queue = Gauge("flipkd_requests_in_progress", "Requests waiting or running", registry=registry)
        self.scores = Histogram(
            "flipkd_score", "Match probabilities", buckets=[step / 20 for step in range(1, 21)], registry=registry
        )
        self.reloads = Counter("flipkd_reloads", "Replacements of the matcher", ["outcome"], registry=registry)
        cut = Gauge("flipkd_truncated_texts", "Texts longer than the matcher reads, so far", registry=registry)
        cut.set_function(truncated)

        self._by_route: dict[tuple[str, int], Histogram] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer with the time that it took."""
        found = self._by_route.get((route, status))
        if found is None:
            found = self._by_route[route, status] = self._seconds.labels(route, str(status))
        found.observe(seconds)

    def scored(self, scores: Iterable[float]) -> None:
        """Count match probabilities."""
        for score in scores:
            self.scores.observe(score)

    def page(self) -> bytes:
        """Return all measurements as text."""
        return bytes(generate_latest(self._registry))
