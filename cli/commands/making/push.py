"""``flipkd push``: upload a matcher directory to a model hub."""

from __future__ import annotations

from pathlib import Path

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import print_json


@click.command(
    epilog=options.examples(
        "flipkd push faq-matcher team/faq",
        "flipkd push faq-matcher team/faq --private --revision v2",
    )
)
@options.matcher_argument
@click.argument("repository")
@click.option("--private", is_flag=True, help="Create the repository for its owner only.")
@click.option("--revision", help="Branch to upload to.  [default: the main one]")
@options.json_option
def push(matcher: str, repository: str, private: bool, revision: str | None, as_json: bool) -> None:
    """Upload MATCHER to REPOSITORY, a name on the hub such as team/faq, which is created if need be.

    Every file is compared with the manifest first. Only the matcher's own files are uploaded. HF_TOKEN and HF_ENDPOINT
    set the account and the hub.
    """
    from flipkd_sdk.exporters.hub import push as upload

    commit = upload(Path(matcher), repository, private=private, revision=revision)
    if as_json:
        print_json({"matcher": matcher, "repository": repository, "commit": commit})
    else:
        click.echo(commit)
