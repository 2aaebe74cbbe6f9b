"""Score folders of Parquet on Ray, reading and writing on all machines at once.

    python examples/ray_job.py MATCHER pairs/ scored/                       # on this machine
    RAY_ADDRESS=ray://head:10001 python examples/ray_job.py MATCHER ...     # on a cluster

MATCHER and both folders must have the same path on every machine, as on a shared drive, or be addresses that Ray reads,
such as s3://. Needs: pip install 'flipkd-sdk[cpu,ray]' there and here.
"""

from __future__ import annotations

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import click
import ray

from flipkd_sdk.runtimes.serving.dataframes import PairScorer


@click.command()
@click.argument("matcher", type=click.Path(exists=True, resolve_path=True))
@click.argument("pairs")
@click.argument("scored")
@click.option("--a-column", default="text_a", show_default=True)
@click.option("--b-column", default="text_b", show_default=True)
@click.option("--gpus", is_flag=True, help="One worker per GPU instead of one per CPU.")
def main(matcher: str, pairs: str, scored: str, a_column: str, b_column: str, gpus: bool) -> None:
    """Add a score and a match column to the Parquet files in PAIRS, and write them to SCORED."""
    ray.init(include_dashboard=False)
    scorer = PairScorer(matcher, a_column=a_column, b_column=b_column, device="cuda" if gpus else "cpu")
    ray.data.read_parquet(pairs).map_batches(
        scorer,
        batch_format="pyarrow",
        batch_size=16384 if gpus else 4096,
        num_gpus=1 if gpus else 0,
        num_cpus=1,
    ).write_parquet(scored)


if __name__ == "__main__":
    main()
