"""Score a table of pairs on Spark.

    python examples/spark_job.py MATCHER pairs/ scored/
    spark-submit --master yarn examples/spark_job.py MATCHER hdfs:///pairs hdfs:///scored

MATCHER must have the same path on every machine; `spark-submit --archives` can bring it there. Needs Java here, and
flipkd-sdk[cpu,parquet] and pandas in the Python of the executors.
"""

from __future__ import annotations

import click
from pyspark.sql import SparkSession
from pyspark.sql.types import BooleanType, FloatType, StructField, StructType

from flipkd_sdk.runtimes.serving.dataframes import PairScorer


@click.command()
@click.argument("matcher")
@click.argument("pairs")
@click.argument("scored")
@click.option("--a-column", default="text_a", show_default=True)
@click.option("--b-column", default="text_b", show_default=True)
def main(matcher: str, pairs: str, scored: str, a_column: str, b_column: str) -> None:
    """Add a score and a match column to the Parquet files in PAIRS, and write them to SCORED."""
    spark = SparkSession.builder.appName("flipkd").getOrCreate()
    table = spark.read.parquet(pairs)
    schema = StructType([*table.schema, StructField("score", FloatType()), StructField("match", BooleanType())])
    scorer = PairScorer(matcher, a_column=a_column, b_column=b_column, device="cpu")
    table.mapInArrow(scorer.map, schema).write.parquet(scored)
    spark.stop()


if __name__ == "__main__":
    main()
