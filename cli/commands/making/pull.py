"""``flipkd pull``: download a matcher directory from a model hub."""

from __future__ import annotations

from pathlib import Path

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json


@click.command(
    epilog=options.examples(
        "flipkd pull team/faq --out faq-matcher",
        "flipkd pull team/faq --revision v2 --out faq-matcher --overwrite",
    )
)
@click.argument("repository")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Matcher directory to write.")
@click.option("--revision", help="Branch, tag or commit.  [default: the main branch]")
@click.option("--overwrite", is_flag=True, help="Replace an existing matcher directory.")
@options.json_option
def pull(repository: str, out: Path, revision: str | None, overwrite: bool, as_json: bool) -> None:
    """Download REPOSITORY, a name on the hub such as team/faq, as a matcher directory.

    A download that broke off goes on where it was. Every file is compared with the manifest before the directory
    appears. HF_TOKEN and HF_ENDPOINT set the account and the hub.
    """
    from flipkd_sdk.exporters.hub import pull as download

    manifest = download(repository, out, revision=revision, overwrite=overwrite)
    if as_json:
        print_json({"repository": repository, "matcher": str(out), "variants": list(manifest.variants)})
    else:
        click.echo(f"Matcher: {out} ({', '.join(manifest.variants)})")
