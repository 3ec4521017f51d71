"""The entry of a launch of `bench ab`: the command in a child process, which does not outlive its parent."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `bench` with the child's words, but not for longer than its parent lives."""
    from bench.measure.launch.rank_process import die_with_parent

    die_with_parent(int(sys.argv.pop(1)))
    from bench.cli import main as command

    command()
