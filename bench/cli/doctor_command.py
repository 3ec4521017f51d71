"""`bench doctor`: what a run would use here, and what is wrong."""

from __future__ import annotations

import click

from bench.errors import BenchError


@click.command(name="doctor")
@click.option("--strict", is_flag=True, help="Exit with 1 on a warning too.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Fail where the machine has not so many, such as gpus=8. Repeatable.",
)
def command(strict: bool, expected: tuple[str, ...]) -> int:
    """Say what `bench run` would use here and why, and what is wrong or suspicious.

    One line a finding: `ok|warn|fail: what: value; remedy`. Exit 1 on a fail.

    \b
    Examples:
      bench doctor
      bench doctor --expect gpus=8 --strict
    """
    from bench.measure.doctor import checks

    findings = checks.examine(checks.gather(), expect=dict(_expectation(text) for text in expected))
    for finding in findings:
        click.echo(finding.line())
    bad = {"fail", "warn"} if strict else {"fail"}
    return int(any(finding.level in bad for finding in findings))


def _expectation(text: str) -> tuple[str, int]:
    name, separator, number = text.partition("=")
    if not separator or not number.isdecimal():
        raise BenchError(f"--expect {text}: NAME=NUMBER, such as gpus=8")
    return name, int(number)
