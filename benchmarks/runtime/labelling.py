"""Time to the next pair of ``flipkd label`` on 50,000 texts, after its start-up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from runtime.concurrency import percentile
from runtime.parts import texts

from flipkd_sdk.cli.labelling.chooser import Chooser
from flipkd_sdk.cli.labelling.label_file import LabelFile
from flipkd_sdk.cli.labelling.pool import make_pool
from flipkd_sdk.cli.labelling.session import Session

if TYPE_CHECKING:
    from runtime.parts import Setting

_TEXTS = 50_000
_ANSWERS = 200


def next_pair(setting: Setting) -> dict[str, Any]:
    """Answer 200 pairs, and measure from each answer to the explanation of the next pair."""
    size = setting.size(_TEXTS)
    start = time.perf_counter()
    with setting.load() as matcher:
        pool = make_pool(
            texts(size, seed=13),
            None,
            matcher.encode,
            lambda _, cosines: matcher.calibration.probability(cosines).astype(np.float64),
            0.5,
            seed=0,
        )
        files = LabelFile(setting.folder / "labels.csv"), LabelFile(setting.folder / "unsure.csv")
        session = Session(
            Chooser(pool, matcher.calibration.threshold, random_share=0.2, seed=0),
            *files,
            lambda a, b: matcher.explain(a, b).to_html(styled=False),
        )
        session.state()
        started = time.perf_counter() - start
        taken = []
        for number in range(_ANSWERS):
            shown = session.shown
            if shown is None:
                break
            begun = time.perf_counter()
            session.answer(shown.row, ("match", "none")[number % 2])
            session.state()
            taken.append(time.perf_counter() - begun)
    for file in files:
        file.close()
    worst = percentile(taken, 99)
    return {
        "texts": size,
        "start_seconds": started,
        "answers": len(taken),
        "p50_seconds": percentile(taken, 50),
        "p99_seconds": worst,
        "target": "99% of the next pairs in under 0.1 seconds",
        "met": worst < 0.1,
    }
