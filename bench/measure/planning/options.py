"""The options of `bench run`: their types, which of them a run records, and the parsing of `--set` and `--slow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.records.saved_plan import parse_pair

_SPELT = {"suites": "SUITE", "settings": "--set", "cases": "--case", "slow_link": "--slow-link"}
"""Field -> option, if their names differ."""


@dataclass(frozen=True)
class RunOptions:
    """The options of `bench run` as click gives them; None: not given."""

    suites: tuple[str, ...] = ()
    preset: str | None = None
    ranks: int | None = None
    launcher: str = "auto"
    device: str = "auto"
    backend: str | None = None
    settings: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    """Suites, operations and cases to leave out; the plan keeps the words, so that no reader looks for those cases."""
    budget: str | None = None
    precision: str | None = None
    launches: int | None = None
    visits: int | None = None
    seed: int | None = None
    label: str | None = None
    output: Path | None = None
    resume: Path | None = None
    like: Path | None = None
    against: Path | None = None
    allow_unlike: bool = False
    busy: bool = False
    """True: judge a machine although other programs use it."""
    timeout: str | None = None
    slow: tuple[str, ...] = ()
    slow_link: tuple[str, ...] = ()
    one_launch: int | None = None
    """The only launch of the plan to make: `bench ab` interleaves the launches of two runs."""
    launch_seconds: float | None = None
    """Seconds for that launch, its start included; None: its share of the plan's budget."""
    plan_only: bool = False
    """True: print the plan and measure nothing."""
    save_as: Path | None = None
    """The result file of one launch, whose name `bench ab` has to know."""
    profile: bool = False
    """True: each rank saves a trace of every case by torch's profiler."""
    join_timeout: str | None = None
    """Time for the ranks of a joined run to meet."""
    continuation: str | None = None
    """Orders of a joined rank to itself, for a later launch, as text of `bench.measure.launch.relaunch`."""
    pair: str | None = None
    """The side of `bench ab` that this run is, as text of `bench.records.saved_plan`."""

    PLAN_OPTIONS = (
        "suites", "preset", "ranks", "backend", "settings", "cases", "skip", "budget", "precision", "launches",
        "visits", "seed", "label", "timeout", "slow", "slow_link",
    )  # fmt: skip

    def refuse_mixed(self) -> None:
        """Raise BenchError if a saved plan is asked for together with options that would change it."""
        for source, fitting in (("resume", {"ranks", "budget"}), ("like", {"ranks", "label", "output", "launches"})):
            names = (*self.PLAN_OPTIONS, "output", *({"resume", "like"} - {source}))
            given = [name for name in names if getattr(self, name) not in (None, ()) and name not in fitting]
            if getattr(self, source) is not None and given:
                shown = ", ".join(_SPELT.get(name, f"--{name}") for name in given)
                raise BenchError(f"--{source} {getattr(self, source)}: its plan is in the file; leave out {shown}")

    def to_record(self) -> dict[str, Any]:
        """The given options as plain JSON values; for a side of `bench ab`, its place in the pair too."""
        internal = ("one_launch", "launch_seconds", "plan_only", "save_as", "pair", "continuation")
        given = {n: v for n, v in asdict(self).items() if v not in (None, (), False) and n not in internal}
        pair = {} if self.pair is None else {"pair": asdict(parse_pair(self.pair))}
        return {name: _to_json(value) for name, value in given.items()} | pair


def _to_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def parse_settings(texts: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Parse the `KEY=VALUE,...` of `--set` to {key: values}. Raises BenchError for any other form."""
    settings: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise BenchError(f"--set {text}: KEY=VALUE, or KEY=VALUE1,VALUE2 for alternatives")
        settings.setdefault(name.strip(), []).extend(values.split(","))
    return settings


Speeds = tuple[tuple[int, float], ...]
"""Pairs of a rank and the share of its speed that it keeps."""


def parse_speeds(option: str, texts: Sequence[str], world_size: int) -> Speeds:
    """Parse `1=0.5,3=0.25` to pairs. Raises BenchError for a rank that the run lacks, or a speed out of (0, 1)."""
    speeds: dict[int, float] = {}
    for text in (part.strip() for given in texts for part in given.split(",")):
        rank_text, equals, speed_text = text.partition("=")
        if not equals or not rank_text.strip().isdecimal():
            raise BenchError(f"{option} {text}: RANK=SPEED, such as {world_size - 1}=0.5 for half as fast")
        rank, speed = int(rank_text), _speed(option, text, speed_text)
        if rank >= world_size:
            raise BenchError(f"{option} {text}: the run has {world_size} ranks, 0 to {world_size - 1}")
        if rank in speeds:
            raise BenchError(f"{option} {text}: rank {rank} is given twice")
        speeds[rank] = speed
    return tuple(sorted(speeds.items()))


def _speed(option: str, text: str, speed_text: str) -> float:
    try:
        speed = float(speed_text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < 1.0:
        raise BenchError(f"{option} {text}: a speed lies between 0 and 1; a rank can only be made slower than it is")
    return speed
