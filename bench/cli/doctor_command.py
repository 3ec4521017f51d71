"""`bench doctor`: what a run would use here, and what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import click

from bench.cli.help import HelpedCommand
from bench.core.column_fit import wrap
from bench.core.terminal import echo, output_width
from bench.core.values import counted, digits, first_few
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.records.lines.parts import Finding

LEVELS = ("fail", "warn", "ok")
STEPS = {"isolate": "isolate this node", "reboot": "reboot this node", "reset": "reset the device"}
"""Actions after a failure, and what the verdict says of them; of several, the first."""


@click.command(name="doctor", cls=HelpedCommand, page="running")
@click.option("--strict", is_flag=True, help="Exit with 1 on a warning too.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Fail if the machine has fewer, such as gpus=8. Repeatable.",
)
def command(strict: bool, expected: tuple[str, ...]) -> int:
    """Say what `bench run` would use here and why, and what is wrong or suspicious.

    The first line is the verdict. Then one line per finding, failures first: `ok|warn|fail: what: value; remedy`.
    Findings about hardware say `isolate`, `reset`, `reboot` or `watch` before the remedy. Exit 1 on a fail.

    \b
    Examples:
      bench doctor
      bench doctor --expect gpus=8 --strict
    """
    from bench.measure.doctor import checks

    findings = checks.examine(checks.gather(), expect=dict(_expectation(text) for text in expected))
    bad = ("fail", "warn") if strict else ("fail",)
    _echo(_verdict(findings, bad))
    for finding in sorted(findings, key=_rank):
        _echo(finding.line())
    return int(any(finding.level in bad for finding in findings))


def _echo(line: str) -> None:
    """Print a line; a terminal breaks it at its width, a pipe keeps it whole, for programs that read line by line."""
    lines = wrap(line, output_width(sys.stdout), "    ") if sys.stdout.isatty() else [line]
    echo("\n".join(lines))


def _rank(finding: Finding) -> tuple[int, int]:
    """Place of a finding on the screen: by its level, then by its step, the hardest first."""
    steps = [*STEPS, "", "watch"]
    return LEVELS.index(finding.level), steps.index(finding.action)


def _verdict(findings: Sequence[Finding], bad: Collection[str]) -> str:
    """`Ready.`, `Ready, with 1 warning: load.`, or `Not ready: 1 failure: GPU 1 NVLink. Next: reset the device.`"""
    ordered = sorted(findings, key=_rank)
    named = {level: [finding.what for finding in ordered if finding.level == level] for level in ("fail", "warn")}
    nouns = {"fail": "failure", "warn": "warning"}
    parts = [f"{counted(len(names), nouns[level])}: {first_few(names)}" for level, names in named.items() if names]
    actions = {finding.action for finding in findings if finding.level == "fail"}
    step = next((f" Next: {text}." for action, text in STEPS.items() if action in actions), "")
    if any(named[level] for level in bad):
        return f"Not ready: {'; '.join(parts)}.{step}"
    return f"Ready, with {'; '.join(parts)}." if parts else "Ready."


def _expectation(text: str) -> tuple[str, int]:
    name, separator, number = text.partition("=")
    if not separator or digits(number) is None:
        raise BenchError(f"--expect {text}: NAME=NUMBER, such as gpus=8")
    return name, int(number)
