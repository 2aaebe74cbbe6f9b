"""``flipkd doctor``: check of this machine and its packages."""

from __future__ import annotations

import dataclasses

import click

from flipkd_sdk.cli import options
from flipkd_sdk.cli.console import columns, print_json


@click.command(
    epilog=options.examples(
        "flipkd doctor",
        "flipkd doctor faq-matcher --json",
    )
)
@click.argument("matcher", type=click.Path(), required=False)
@options.json_option
@click.pass_context
def doctor(ctx: click.Context, matcher: str | None, as_json: bool) -> None:
    """Check what this machine can run: CPU, packages, onnxruntime and its providers, and, if given, a MATCHER.

    Runs a small self-test of 8-bit arithmetic and, of a matcher, of its promise that a score does not depend on its
    batch. Ends with exit code 1 if something keeps matchers from running.
    """
    from flipkd_sdk.cli import doctor_checks

    findings = [*doctor_checks.machine(), *doctor_checks.packages(), *doctor_checks.engine()]
    if matcher is not None:
        findings += doctor_checks.matcher(matcher)
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        click.echo(columns([(finding.level, finding.what, finding.found) for finding in findings]))
        for finding in findings:
            if finding.advice:
                click.echo(f"\n{finding.what}: {finding.advice}")
    if any(finding.level == "error" for finding in findings):
        ctx.exit(1)
