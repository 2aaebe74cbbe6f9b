"""The commands ``runtime``, ``serve`` and ``command-line``, and the parts that they measure."""

from __future__ import annotations

from runtime.command_line import bench_cold, bench_help, bench_pairs, bench_repeated
from runtime.concurrency import callers
from runtime.explanations import explanations
from runtime.head import head_cost
from runtime.labelling import next_pair
from runtime.pages import pages
from runtime.parts import parts_command
from runtime.serving import callers_of_service, soak_of_service
from runtime.soak import soak
from runtime.start import cold_start, import_time, memory

runtime = parts_command(
    "runtime",
    {
        "cold": cold_start,
        "import": import_time,
        "memory": memory,
        "callers": callers,
        "head": head_cost,
        "soak": soak,
    },
    "Measure start-up, memory, concurrent callers, the pair head and a long run of MATCHER.",
)

serve = parts_command(
    "serve",
    {
        "callers": callers_of_service,
        "soak": soak_of_service,
        "explain": explanations,
        "label": next_pair,
        "pages": pages,
    },
    "Measure flipkd serve and label with MATCHER: 32 callers, 50 reloads under load, explanations, pages.",
)

command_line = parts_command(
    "command-line",
    {"help": bench_help, "cold": bench_cold, "repeated": bench_repeated, "pairs": bench_pairs},
    "Measure the cost of the command line over MATCHER itself.",
)
