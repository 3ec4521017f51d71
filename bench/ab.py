"""`bench ab`: two settings in alternating launches, compared launch by launch.

Launches of one program differ more than a change that one wants to see, and a noisy machine has better and worse
minutes. So each side makes its launches in turn with the other's, and the difference is taken within each pair, where
both sides had the same minute. Every launch is a child process that runs this source of `bench`, whatever interpreter
it has, and adds its launch to its side's result file; what comes out is two ordinary files.
"""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from bench import choices, clock, exit_code
from bench.ab_launch import Ended, probe, start
from bench.ab_plan import Schedule, Side, first_words, next_words, order, schedule, sides
from bench.ab_resume import taken_up
from bench.comparing import Options as Comparing
from bench.comparing import present
from bench.errors import BenchError
from bench.launch import detect, environment_variables
from bench.pairs import Pair
from bench.planning import DEFAULT_FOLDER
from bench.prices import startup_seconds
from bench.result import load, new_path
from bench.worker import host_name


@dataclass(frozen=True)
class Options:
    """The options of `bench ab` as click gives them; None: not said."""

    a: tuple[str, ...] = ()
    b: tuple[str, ...] = ()
    a_python: str | None = None
    b_python: str | None = None
    suites: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    """Options of `bench run` for both sides, as words."""
    device: str | None = None
    preset: str = "smoke"
    pairs: int | None = None
    budget: str | None = None
    label: str = "ab"
    output: Path | None = None
    resume: tuple[Path, ...] = ()
    """Both files of an alternation that ended early."""


Launch = Callable[[Side, Sequence[str]], Ended]
"""Calls `bench` with some words, as a side does, and waits for its end."""


def run(options: Options, comparing: Comparing) -> int:
    """The exit code. Raises BenchError for what the user can mend."""
    began = clock.monotonic_seconds()
    joined = detect("auto", environment_variables())
    if joined is not None:
        raise BenchError(
            f"bench ab was started through {joined.how}: processes that somebody else started cannot be alternated; "
            "start it once, by itself, and it starts its ranks"
        )
    # A mistake there is to be told before anything is measured.
    comparing.gate()
    comparing.settings()
    both = sides((options.a, options.b), (options.a_python, options.b_python), sys.executable)
    planned, before = schedule(options.preset, options.pairs, options.budget), None
    if options.resume:
        before = taken_up(options.resume, both)
        planned = replace(planned, pairs=before.pairs)
    for side in both:
        click.echo(f"{side.name}: {side.setting}; {probe(side)}", err=True)
    files = _files(options, both) if before is None else before.files
    alternation = Alternation(options, both, planned, files, start, began=began)
    if before is not None:
        alternation.id, alternation.first = before.id, before.first
    try:
        alternation.run()
    except KeyboardInterrupt:
        click.echo(f"interrupted; {alternation.kept()}{alternation.remedy()}", err=True)
        return exit_code.INTERRUPTED
    except BenchError:
        click.echo(f"{alternation.kept()}{alternation.remedy()}", err=True)
        raise
    click.echo(f"{alternation.kept()}; compare again: {alternation.command()}", err=True)
    a, b = map(load, alternation.files)
    code = present([a], [[b]], comparing)
    return code or max(alternation.codes)


def _files(options: Options, both: Sequence[Side]) -> tuple[Path, Path]:
    folder, now = options.output or DEFAULT_FOLDER, clock.utc_now()
    a, b = (new_path(folder, f"{options.label}-{side.name}", host_name(), now) for side in both)
    return a, b


@dataclass
class Alternation:
    """The launches of both sides in their order."""

    options: Options
    sides: tuple[Side, Side]
    schedule: Schedule
    files: tuple[Path, Path]
    launch: Launch
    began: float
    now: Callable[[], float] = clock.monotonic_seconds
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    first: int = 0
    """The pair to begin with."""
    codes: list[int] = field(default_factory=lambda: [0])
    seconds: list[float] = field(default_factory=list)
    """What each launch took."""

    def run(self) -> None:
        """Raises BenchError where a launch cannot be made, or the sides turn out to have no case in common."""
        most = self.schedule.most_seconds
        length = "as long as they need" if most is None else f"at most {_duration(most)}"
        left = self.schedule.pairs - self.first
        click.echo(f"{left} pairs of launches in the order a b b a, {length}", err=True)
        for pair in range(self.first, self.schedule.pairs):
            if self.seconds and not self._has_time():
                click.echo(f"the budget has no time for another pair: {pair} of {self.schedule.pairs} done", err=True)
                self._ask_choices()
                return
            for number in order(pair):
                self._one(pair, number)
            if pair == 0:
                self._check_cases()

    def _one(self, pair: int, number: int) -> None:
        side, file = self.sides[number], self.files[number]
        where = f"pair {pair + 1} of {self.schedule.pairs}: {side.name}"
        click.echo(f"{where} {side.setting}{self._left()}", err=True)
        began = self.now()
        ended = self.launch(side, self._words(pair, side, file))
        self.seconds.append(self.now() - began)
        if ended.code == exit_code.INTERRUPTED:
            raise KeyboardInterrupt
        if ended.code not in (exit_code.OK, exit_code.PARTIAL):
            raise BenchError(f"{where}: {_reason(ended)}")
        self.codes.append(ended.code)

    def _words(self, launch: int, side: Side, file: Path) -> list[str]:
        if launch:
            return next_words(launch, side, self.options.device, file)
        pair = Pair(self.id, side.name, side.setting).to_text()
        chosen = self.options
        given = ["--preset", chosen.preset, *chosen.given]
        return first_words(given, chosen.suites, side, self.schedule, chosen.label, file, pair)

    def _has_time(self) -> bool:
        """Whether the budget holds another pair like those before, and what has to be asked in the end."""
        left = self._budget_left()
        if left is None:
            return True
        asking = len(self._asked()) * (startup_seconds("cuda") + choices.PASS_SECONDS)
        return left >= 2 * sum(self.seconds) / len(self.seconds) + asking

    def _asked(self) -> list[int]:
        """Numbers of the sides whose backend is asked, after their last launch, what it chose."""
        return [n for n, file in enumerate(self.files) if load(file).plan.get("backend") in choices.LOGGED_BACKENDS]

    def _ask_choices(self) -> None:
        """The pass that the last of the planned launches would have made. It fails nothing."""
        for number in self._asked():
            side, file = self.sides[number], self.files[number]
            click.echo(f"{side.name}: what the backend chose (not timed)", err=True)
            ended = self.launch(side, next_words(self.schedule.pairs, side, self.options.device, file))
            if ended.code == exit_code.INTERRUPTED:
                raise KeyboardInterrupt
            if ended.code not in (exit_code.OK, exit_code.PARTIAL):
                click.echo(f"warning: {side.name}: what the backend chose is not known: {_reason(ended)}", err=True)

    def _budget_left(self) -> float | None:
        budget = self.schedule.budget_seconds
        return None if budget is None else budget - (self.now() - self.began)

    def _left(self) -> str:
        """From the pace so far, within the budget."""
        if not self.seconds:
            return ""
        launches = 2 * self.schedule.pairs - len(self.seconds)
        paced = launches * sum(self.seconds) / len(self.seconds)
        left = self._budget_left()
        return f", about {_duration(paced if left is None else min(paced, max(0.0, left)))} left"

    def _check_cases(self) -> None:
        a, b = (set(load(file).planned_cases()) for file in self.files)
        if not a & b:
            raise BenchError(
                f"the sides have no case in common (a measures {min(a)}, b {min(b)}), so they cannot be compared in "
                "pairs; give parameters of cases with --set KEY=V1,V2 to both sides"
            )

    def kept(self) -> str:
        """What became of the files."""
        there = [str(file) for file in self.files if file.exists()]
        return f"saved: {' and '.join(there)}" if there else "nothing was measured"

    def remedy(self) -> str:
        """How to go on."""
        if not all(file.exists() for file in self.files):
            return ""
        both = " ".join(f"--resume {shlex.quote(str(file))}" for file in self.files)
        return f"; go on with the same command and {both}"

    def command(self) -> str:
        return shlex.join(["bench", "compare", *map(str, self.files)])


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _reason(ended: Ended) -> str:
    words = ended.last_words.removeprefix("bench: error: ")
    if ended.code == exit_code.USAGE and words:
        return words
    how = f"killed by signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    return f"the run ended early ({how}): {words or 'it said nothing'}"
