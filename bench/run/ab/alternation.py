"""`bench ab`: two settings in alternating launches, compared launch by launch.

Launches of one program differ more than a change that one wants to see, and a noisy machine has better and worse
minutes. So the launches of both sides are interleaved, and the difference is taken within each pair, which had the
same minute. Every launch is a child process that runs this source of `bench`, whatever interpreter
it has, and adds its launch to its side's result file. The result is two ordinary files.
"""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from bench.analysis.comparison_output.presentation import CompareOptions as Comparing
from bench.analysis.comparison_output.presentation import present
from bench.core import clock, exit_codes
from bench.core.process import stop_signals
from bench.core.process_environment import environment_variables
from bench.errors import BenchError
from bench.measure.engine.passes import nccl_choices
from bench.measure.engine.worker import host_name
from bench.measure.launchers.table import detect
from bench.measure.planning.visit_overhead import startup_seconds
from bench.records.file import load, new_path
from bench.records.last_result import DEFAULT_FOLDER
from bench.records.privacy.recorded import mask_label
from bench.records.saved_plan import SIDES, Pair
from bench.run.ab.ab_budget import ENOUGH_SAMPLES, PairBudget, measured_cost, pairs_within
from bench.run.ab.ab_check import outlooks, refuse_unlike, refuse_useless
from bench.run.ab.ab_detect import Detection, plan_detection
from bench.run.ab.ab_resume import resume_pair
from bench.run.ab.ab_sides import (
    PairRequest,
    PairSchedule,
    ReadOptions,
    Setting,
    first_words,
    next_words,
    order,
    parse_pair_request,
    schedule,
    side,
    sides,
    timed_words,
)
from bench.run.ab.base_sides import sides_from_base
from bench.run.ab.child import LaunchEnd, failure, probe, reason, refuse_stopped
from bench.run.ab.held_files import HeldFiles
from bench.stats.power import MOST_PAIRS
from bench.stats.sequential import FIRST_PLAN_PAIRS


@dataclass(frozen=True)
class AbOptions:
    """The options of `bench ab` as click gives them; None: not said."""

    a: tuple[str, ...] = ()
    b: tuple[str, ...] = ()
    base: str | None = None
    """Commit of side a; side b is then the working tree."""
    a_python: str | None = None
    b_python: str | None = None
    suites: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    """Options of `bench run` for both sides, as words."""
    device: str | None = None
    preset: str = "smoke"
    pairs: int | None = None
    detect: str | None = None
    """Change to plan the pairs for, such as 10%."""
    budget: str | None = None
    label: str = "ab"
    output: Path | None = None
    resume: tuple[Path, ...] = ()
    """Both files of an alternation that ended early."""

    def given_words(self) -> list[str]:
        """Options of `bench run` for both sides."""
        return ["--preset", self.preset, *self.given]


Launch = Callable[[Setting, Sequence[str]], LaunchEnd]
"""Calls `bench` with some words, as a side does, and waits for its end."""


def run(options: AbOptions, comparing: Comparing, read: ReadOptions) -> int:
    """Run both sides; returns the exit code. `read` parses words of `bench run`. Raises BenchError."""
    joined = detect("auto", environment_variables())
    if joined is not None:
        raise BenchError(
            f"bench ab was started through {joined.how}: processes that another program started cannot be alternated; "
            "start it once, by itself, and it starts its ranks"
        )
    # A mistake there is to be told before anything is measured.
    comparing.gate()
    comparing, detection = plan_detection(options.detect, options.pairs, options.budget, comparing)
    asked = parse_pair_request(options.pairs if detection is None else MOST_PAIRS, options.budget)
    with _both_sides(options, read) as both:
        return _alternate(options, comparing, both, asked, detection)


@contextmanager
def _both_sides(options: AbOptions, read: ReadOptions) -> Iterator[tuple[Setting, Setting]]:
    """Both sides, for as long as the block lasts. Raises BenchError."""
    texts = (options.a, options.b)
    if options.base is None:
        yield sides(texts, (options.a_python, options.b_python), sys.executable, read)
        return
    for name, python in zip(SIDES, (options.a_python, options.b_python), strict=True):
        if python is not None:
            raise BenchError(f"--base {options.base} with --{name}-python {python}: leave one of them out")
    a, b = (side(name, given, None, sys.executable, read) for name, given in zip(SIDES, texts, strict=True))
    with sides_from_base(options.base, (a, b), options.suites) as both:
        yield both


def _alternate(
    options: AbOptions,
    comparing: Comparing,
    both: tuple[Setting, Setting],
    asked: PairRequest,
    detection: Detection | None,
) -> int:
    began = clock.monotonic_seconds()
    before = resume_pair(options.resume, both) if options.resume else None
    for each in both:
        click.echo(f"{each.name}: {each.setting}; {probe(each)}", err=True)
    if before is None:
        plans = outlooks(both, options.given_words(), options.suites)
        refuse_useless(plans, comparing)
        planned = schedule(options.preset, asked, plans[0].cases, clock.monotonic_seconds() - began)
    else:
        refuse_unlike([load(file).architecture for file in before.files], comparing)
        planned = _rest(schedule(options.preset, replace(asked, budget=None), ()), asked, before.pairs)
    files = _files(options, both) if before is None else before.files
    with HeldFiles(both, files, is_new=before is None) as held:
        alternation = Alternation(options, both, planned, held.paths, held.launch, began=began, detection=detection)
        if before is not None:
            alternation.id, alternation.first = before.id, before.first
        return _see_through(alternation, comparing, held)


def _rest(unlimited: PairSchedule, asked: PairRequest, pairs: int) -> PairSchedule:
    """Schedule of a resumed alternation: the pairs that were planned, within the budget of this call."""
    return replace(unlimited, pairs=pairs, budget_seconds=asked.budget_seconds)


def _see_through(alternation: Alternation, comparing: Comparing, held: HeldFiles) -> int:
    try:
        alternation.run()
        if held.check():
            alternation.codes.append(exit_codes.PARTIAL)
    except KeyboardInterrupt as stopped:
        code = stop_signals.handle(stopped)
        click.echo(f"interrupted; {alternation.kept()}{alternation.remedy()}", err=True)
        return code
    except Exception:
        if alternation.seconds and any(map(_has_lines, alternation.files)):
            click.echo(f"{alternation.kept()}{alternation.remedy()}", err=True)
        raise
    click.echo(f"{alternation.kept()}; compare again: {alternation.command()}", err=True)
    a, b = map(load, alternation.files)
    code = present([a], [[b]], replace(comparing, pair_seconds=alternation.pair_seconds()))
    return code or max(alternation.codes)


def _files(options: AbOptions, both: Sequence[Setting]) -> tuple[Path, Path]:
    folder, now = options.output or DEFAULT_FOLDER, clock.utc_now()
    a, b = (new_path(folder, f"{mask_label(options.label)}-{side.name}", host_name(), now) for side in both)
    return a, b


def _has_lines(file: Path) -> bool:
    """True for a file that a launch has written to; it is made before the first one."""
    return file.exists() and file.stat().st_size > 0


@dataclass
class Alternation:
    """The launches of both sides in their order."""

    options: AbOptions
    sides: tuple[Setting, Setting]
    schedule: PairSchedule
    files: Sequence[Path]
    launch: Launch
    began: float
    now: Callable[[], float] = clock.monotonic_seconds
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    first: int = 0
    """The pair to begin with."""
    detection: Detection | None = None
    planned: int = 0
    """Number of pairs that the detection asks for."""
    codes: list[int] = field(default_factory=lambda: [0])
    seconds: list[float] = field(default_factory=list)
    """Seconds of each launch."""
    budget: PairBudget | None = field(init=False)
    """Time left and pairs; None without a budget."""

    def __post_init__(self) -> None:
        budget = self.schedule.budget_seconds
        self.budget = None if budget is None else PairBudget(str(self.options.budget), budget, self.schedule.pairs)

    @property
    def pairs(self) -> int:
        """Number of pairs there will be, as far as is known."""
        most = self.schedule.pairs if self.budget is None else self.budget.pairs or self.schedule.pairs
        return most if self.detection is None else min(self.planned, most)

    def run(self) -> None:
        """Make all launches. Raises BenchError if one fails, or the first one shows that the budget is too short."""
        if self.detection is not None:
            self.planned = max(FIRST_PLAN_PAIRS, self.first + 1)
        self._say_length()
        if self.budget:
            self.budget.made = 2 * self.first
        pair = self.first
        while pair < self.pairs:
            for number in order(pair):
                self._one(pair, number)
            pair += 1
            if self.detection is not None:
                self._plan(self.detection, pair)
        if pair < self.schedule.pairs:
            self._ask_choices()

    def _say_length(self) -> None:
        most = self.schedule.most_seconds
        if most is not None and self.budget is None:
            most *= (self.pairs - self.first) / self.schedule.pairs
        length = "as long as they need" if most is None else f"at most {_duration(most)}"
        count = "pairs" if self.budget else f"{self.pairs - self.first} pairs"
        then = "; then as many as their spread asks for" if self.detection else ""
        click.echo(f"{count} of launches in the order a b b a, {length}{then}", err=True)

    def _plan(self, detection: Detection, made: int) -> None:
        """Let the pairs so far decide how many there will be."""
        most = self.schedule.pairs
        if self.budget is not None:
            left = self.budget.left(self.now() - self.began, self._reserved_seconds())
            most = max(made, min(most, pairs_within(left, self.budget.known, self.budget.made)))
        self.planned = detection.next_pairs(self.files, made, self.pairs, most, self.pair_seconds())
        if self.budget is not None and len(detection.rule.plans):
            self.budget.most_pairs = self.budget.pairs = self.planned

    def _learn(self, budget: PairBudget, pair: int, file: Path) -> None:
        """Learn the cost of later launches from the one that has just been made."""
        elapsed, before = self.now() - self.began, budget.pairs
        cost = measured_cost(load(file), pair, self.seconds[-1])
        try:
            budget.learn(cost, elapsed - self.seconds[-1], elapsed, self._reserved_seconds())
        except BenchError:
            file.unlink()  # nothing will come of a launch without its pair
            raise
        if budget.pairs != before:
            count = f"{'at most ' if self.detection else ''}{budget.pairs} pairs"
            click.echo(
                f"{count}: starting takes {cost.startup_seconds:.0f} s, {ENOUGH_SAMPLES} samples of "
                f"{cost.num_cases} case(s) {cost.cases_seconds:.0f} s",
                err=True,
            )

    def _reserved_seconds(self) -> float:
        """Seconds for what is asked of the backends in the end."""
        start = self.budget.known.startup_seconds if self.budget and self.budget.costs else startup_seconds("cuda")
        return (start + nccl_choices.PASS_SECONDS) * len(self._sides_to_ask())

    def pair_seconds(self) -> float | None:
        """Seconds of a pair in which each case has enough samples, or took without a budget; None: none was made."""
        if not self.seconds:
            return None
        took = 2 * sum(self.seconds) / len(self.seconds)
        return took if self.budget is None else max(took, 2 * self.budget.known.seconds)

    def _one(self, pair: int, number: int) -> None:
        side, file = self.sides[number], self.files[number]
        of_all = "" if self.budget and not self.budget.pairs else f" of {self.pairs}"
        where = f"pair {pair + 1}{of_all}: {side.name}"
        click.echo(f"{where} {side.setting}{self._time_left_text()}", err=True)
        began = self.now()
        ended = self.launch(side, self._words(pair, side, file))
        self.seconds.append(self.now() - began)
        refuse_stopped(ended)
        if ended.code not in (exit_codes.OK, exit_codes.PARTIAL):
            raise failure(where, ended)
        self.codes.append(ended.code)
        if self.budget:
            self._learn(self.budget, pair, self.files[number])

    def _words(self, launch: int, side: Setting, file: Path) -> list[str]:
        if launch:
            words = next_words(launch, side, self.options.device, file)
        else:
            pair = Pair(self.id, side.name, side.setting).to_text()
            chosen = self.options
            words = first_words(chosen.given_words(), chosen.suites, side, self.schedule, chosen.label, file, pair)
        elapsed = self.now() - self.began
        seconds = None if self.budget is None else self.budget.launch_seconds(elapsed, self._reserved_seconds())
        return timed_words(words, seconds)

    def _sides_to_ask(self) -> list[int]:
        """Numbers of the sides whose backend is asked, after their last launch, what it chose."""
        there = [number for number, file in enumerate(self.files) if _has_lines(file)]
        return [n for n in there if load(self.files[n]).plan.backend in nccl_choices.LOGGED_BACKENDS]

    def _ask_choices(self) -> None:
        """The pass that the last of the planned launches would have made. It fails nothing."""
        for number in self._sides_to_ask():
            side, file = self.sides[number], self.files[number]
            click.echo(f"{side.name}: the backend's choices (not timed)", err=True)
            ended = self.launch(side, next_words(self.schedule.pairs, side, self.options.device, file))
            refuse_stopped(ended)
            if ended.code not in (exit_codes.OK, exit_codes.PARTIAL):
                click.echo(f"warning: {side.name}: the backend's choices are not known: {reason(ended)}", err=True)

    def _budget_left(self) -> float | None:
        budget = self.schedule.budget_seconds
        return None if budget is None else budget - (self.now() - self.began)

    def _time_left_text(self) -> str:
        """Text of the time left, by the launches so far, within the budget."""
        if not self.seconds:
            return ""
        launches = 2 * (self.pairs - self.first) - len(self.seconds)
        paced = launches * sum(self.seconds) / len(self.seconds)
        left = self._budget_left()
        return f", about {_duration(paced if left is None else min(paced, max(0.0, left)))} left"

    def kept(self) -> str:
        """Text that names the files that are there."""
        there = [str(file) for file in self.files if _has_lines(file)]
        return f"saved: {' and '.join(there)}" if there else "nothing was measured"

    def remedy(self) -> str:
        """Text that says how to go on."""
        if not all(map(_has_lines, self.files)):
            return ""
        both = " ".join(f"--resume {shlex.quote(str(file))}" for file in self.files)
        return f"; go on with the same command and {both}"

    def command(self) -> str:
        threshold = () if self.detection is None else self.detection.threshold_words()
        return shlex.join(["bench", "compare", *map(str, self.files), *threshold])


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
