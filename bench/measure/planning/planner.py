"""From the options of `bench run` to its Plan: a new one, a repeated one, or the rest of one that ended early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.process_environment import environment_variables
from bench.core.values import parse_seconds, parse_share
from bench.errors import BenchError
from bench.measure.planning import slow_options
from bench.measure.planning.budget import fit_budget
from bench.measure.planning.launcher_env import Joined, threads_per_rank
from bench.measure.planning.place import Place
from bench.measure.planning.plan import Plan, choose_cases, first_of_further, suite_facts
from bench.measure.planning.presets import PRESETS, Preset, default_suites, most_cases
from bench.measure.planning.prices import startup_seconds
from bench.measure.planning.suite_loader import load_all
from bench.measure.system.backends import resolve
from bench.measure.system.slow_types import slow_types
from bench.records.saved_plan import parse_pair

if TYPE_CHECKING:
    from bench.records.file import Result

DEFAULT_PRECISION, DEFAULT_LABEL, DEFAULT_FOLDER = 0.02, "run", Path("results")
_SPELT = {"suites": "SUITE", "settings": "--set", "cases": "--case", "slow_link": "--slow-link"}
"""Options whose name is not that of their field."""


@dataclass(frozen=True)
class RunOptions:
    """The options of `bench run` as click gives them; None: not said."""

    suites: tuple[str, ...] = ()
    preset: str | None = None
    ranks: int | None = None
    launcher: str = "auto"
    device: str = "auto"
    backend: str | None = None
    settings: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
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
    """Whether a machine is judged although others are at work on it."""
    timeout: str | None = None
    slow: tuple[str, ...] = ()
    slow_link: tuple[str, ...] = ()
    one_launch: int | None = None
    """Just this launch of the plan: `bench ab` makes two runs launch by launch, in turn."""
    launch_seconds: float | None = None
    """For that launch, its start included; None: its share of the plan's budget."""
    plan_only: bool = False
    """Whether the plan is to be told, and nothing measured."""
    save_as: Path | None = None
    """The result file of such a run, whose name has to be known."""
    profile: bool = False
    """Whether each rank saves a trace by torch's profiler of every case."""
    pair: str | None = None
    """What `bench.records.saved_plan` keeps of it."""

    PLAN_OPTIONS = (
        "suites", "preset", "ranks", "backend", "settings", "cases", "budget", "precision", "launches", "visits",
        "seed", "label", "timeout", "slow", "slow_link",
    )  # fmt: skip

    def refuse_mixed(self) -> None:
        """Raises BenchError where a saved plan is asked for, and something else than it."""
        for source, fitting in (("resume", {"ranks"}), ("like", {"ranks", "label", "output"})):
            names = (*self.PLAN_OPTIONS, "output", *({"resume", "like"} - {source}))
            given = [name for name in names if getattr(self, name) not in (None, ()) and name not in fitting]
            if getattr(self, source) is not None and given:
                shown = ", ".join(_SPELT.get(name, f"--{name}") for name in given)
                raise BenchError(f"--{source} {getattr(self, source)}: its plan is in the file; leave out {shown}")

    def recorded(self) -> dict[str, Any]:
        """Those that were said, as plain JSON values; of a side of `bench ab`, which of its pair it is."""
        internal = ("one_launch", "launch_seconds", "plan_only", "save_as", "pair")
        said = {n: v for n, v in asdict(self).items() if v not in (None, (), False) and n not in internal}
        pair = {} if self.pair is None else {"pair": asdict(parse_pair(self.pair))}
        return {name: _plain(value) for name, value in said.items()} | pair


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def earlier_run(options: RunOptions) -> Result | None:
    """The run that is to be finished or repeated."""
    from bench.records.file import load

    path = options.resume or options.like
    return None if path is None else load(path)


def choose_device(wanted: str) -> tuple[str, int]:
    """The device type and the number of visible GPUs. Raises BenchError for what is not there, or would be hidden."""
    import torch

    from bench.measure.system.environment import unusable_accelerators

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu":
        return "cpu", num_gpus
    unusable = unusable_accelerators(num_gpus)
    if unusable:
        raise BenchError(unusable)
    if wanted == "cuda" and not num_gpus:
        raise BenchError(
            "--device cuda: torch sees no GPU here; `bench doctor` says why, --device cpu measures the CPU"
        )
    return ("cuda", num_gpus) if num_gpus else ("cpu", 0)


def saved_plan(saved: Result) -> Plan:
    """The plan in a result file. Raises BenchError where another version wrote it."""
    try:
        return Plan.from_json(saved.header["plan"])
    except BenchError as error:
        raise BenchError(f"{saved.path}: {error}; measure anew") from error


def planned_before(resumed: Result, options: RunOptions, place: Place, device: str) -> Plan:
    """The plan of a saved file, once it is sure that it means the same here. Raises BenchError."""
    plan = saved_plan(resumed)
    if plan.device_type != device:
        raise BenchError(f"{resumed.path}: measured on {plan.device_type}, and the device here is {device}")
    facts = {suite.name: suite.sha256 for suite in load_all(s.reference for s in plan.suites)}
    changed = [s.name for s in plan.suites if facts[s.name] != s.sha256]
    if changed and not options.allow_unlike:
        raise BenchError(f"{resumed.path}: suite {changed[0]} has changed since; measure anew, or say --allow-unlike")
    if plan.world_size != place.world_size:
        raise BenchError(f"{resumed.path}: its plan has {plan.world_size} ranks, not {place.world_size}; start as many")
    # Equal code was made sure of, or waived: the ranks are to hold the code that is there now against the plan.
    return replace(plan, suites=tuple(replace(s, sha256=facts[s.name]) for s in plan.suites))


def unpaired(plan: Plan) -> Plan:
    """The plan as one of a run of its own: a side of `bench ab` that is repeated is a side no more."""
    return replace(plan, options={name: said for name, said in plan.options.items() if name != "pair"})


def new_plan(options: RunOptions, device: str, place: Place, joined: Joined | None) -> Plan:
    """A plan made of the options alone. Raises BenchError."""
    from bench.measure.system.environment import planned_memory_bytes, usable_cores

    preset = PRESETS[options.preset or "standard"]
    backend = resolve(device, options.backend)
    suites = load_all(options.suites or _default_suites(options, preset, place.world_size))
    memory_bytes = planned_memory_bytes(device, place.local_world_size)
    machine = place.machine(device, preset.of_suites, usable_cores(), memory_bytes)
    machine = replace(machine, slow_types=slow_types(device))
    cases = choose_cases(suites, machine, _settings(options.settings), options.cases)
    if not options.suites and not options.cases:
        cases = first_of_further(cases, most_cases(preset.name, place.world_size))
    if not cases:
        raise BenchError(f"nothing to measure: {', '.join(s.name for s in suites)} gave no case for this machine")
    lasting = sum(case.min_seconds for case in cases)
    launches = 1 if cases and all(case.min_seconds for case in cases) else preset.launches
    budget = None if options.budget is None else parse_seconds("--budget", options.budget)
    launches = _launches(options, launches, budget, joined, device)
    of_preset = preset.budget_on(device)
    if budget is None and of_preset is not None:
        budget = of_preset + launches * lasting  # a preset's time is for what can be shortened
    if options.visits is not None and options.visits < 1:
        raise BenchError(f"--visits {options.visits}: at least 1")
    if options.seed is not None and options.seed < 0:
        raise BenchError(f"--seed {options.seed}: 0 or more")
    plan = Plan(
        preset=preset.name,
        suites=tuple(suite_facts(s) for s in suites),
        cases=tuple(cases),
        left_out=(),
        world_size=place.world_size,
        device_type=device,
        backend=backend.name,
        launches=launches,
        visits=options.visits or preset.visits,
        case_seconds=preset.case_seconds,
        budget_seconds=budget,
        timeout_seconds=preset.timeout_seconds
        if options.timeout is None
        else parse_seconds("--timeout", options.timeout),
        precision=DEFAULT_PRECISION if options.precision is None else parse_share("--precision", options.precision),
        seed=options.seed or 0,
        threads_per_rank=threads_per_rank(environment_variables(), joined, machine.num_cores, place.local_world_size),
        label=options.label or DEFAULT_LABEL,
        slow=slow_options.parse("--slow", options.slow, place.world_size),
        slow_links=slow_options.parse("--slow-link", options.slow_link, place.world_size),
        options=options.recorded(),
    )
    return fit_budget(plan)


def _default_suites(options: RunOptions, preset: Preset, world_size: int) -> tuple[str, ...]:
    """Those of the named cases, else the preset's and further ones, of which a run takes few cases."""
    named = tuple(dict.fromkeys(case.partition("/")[0] for case in options.cases))
    return named or default_suites(preset, world_size)


def _launches(options: RunOptions, of_preset: int, budget: float | None, joined: Joined | None, device: str) -> int:
    """The number asked for; else the preset's, fewer where a small budget would go into starting processes."""
    if options.launches is not None:
        if options.launches < 1:
            raise BenchError(f"--launches {options.launches}: at least 1")
        return options.launches
    if joined is not None:
        return 1
    if budget is None or options.budget is None:
        return of_preset
    return max(1, min(of_preset, int(budget / (2 * startup_seconds(device)))))


def _settings(texts: tuple[str, ...]) -> Mapping[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise BenchError(f"--set {text}: KEY=VALUE, or KEY=VALUE1,VALUE2 for alternatives")
        settings.setdefault(name.strip(), []).extend(values.split(","))
    return settings
