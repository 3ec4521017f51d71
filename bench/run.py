"""`bench run` from options to exit code: plan, measure through the launcher at hand, and say what came out."""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import clock, exit_code
from bench.backends import Backend, resolve
from bench.errors import BenchError
from bench.launch import Joined, detect, environment_variables, threads_per_rank
from bench.parse import parse_seconds, parse_share
from bench.plan import (
    DEFAULT_SUITES,
    PRESETS,
    STARTUP_SECONDS,
    Plan,
    choose_cases,
    estimate_seconds,
    fit_budget,
    suite_facts,
)
from bench.rank import Place
from bench.recorder import Recorder
from bench.suite import Machine, load_all

if TYPE_CHECKING:
    from bench.result import Result

DoneCases = set[tuple[int, int]]
DEFAULT_PRECISION, DEFAULT_LABEL, DEFAULT_FOLDER = 0.02, "run", Path("results")
_SPELT = {"suites": "SUITE", "settings": "--set", "cases": "--case"}
"""Options whose name is not that of their field."""


@dataclass(frozen=True)
class Options:
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
    seed: int | None = None
    label: str | None = None
    output: Path | None = None
    resume: Path | None = None
    like: Path | None = None
    against: Path | None = None
    allow_unlike: bool = False
    timeout: str | None = None

    PLAN_OPTIONS = (
        "suites", "preset", "ranks", "backend", "settings", "cases", "budget", "precision", "launches", "seed",
        "label", "timeout",
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
        """Those that were said, as plain JSON values."""
        said = {name: value for name, value in asdict(self).items() if value not in (None, (), False)}
        return {name: _plain(value) for name, value in said.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def run(options: Options, arguments: list[str]) -> int:
    """The exit code. Raises BenchError for what the user can mend, KeyboardInterrupt after it has tidied up."""
    began = clock.monotonic_seconds()
    joined = detect(options.launcher, environment_variables())
    quiet = joined is not None and joined.index != 0
    try:
        options.refuse_mixed()
        if joined is None:
            return _run_local(options, arguments, began)
        return _run_joined(options, arguments, joined, began)
    except BenchError:
        if quiet:  # rank 0 says it once for all
            return 2
        raise


def _run_local(options: Options, arguments: list[str], began: float) -> int:
    from bench.environment import default_ranks, usable_cores
    from bench.launch import run as run_ranks

    device, num_gpus = choose_device(options.device)
    preset = options.preset or "standard"
    ranks = options.ranks
    if ranks is None:
        ranks = _saved_ranks(options) or default_ranks(device, preset, num_gpus, usable_cores())
    if ranks < 1:
        raise BenchError(f"--ranks {ranks}: at least 1")
    if device != "cpu" and ranks > num_gpus:
        raise BenchError(
            f"--ranks {ranks}: this machine has {num_gpus} visible GPU(s), and a rank needs one of its own"
        )
    place = Place(0, ranks, 0, ranks)
    plan, recorder, done = open_run(options, arguments, device, place, None)
    try:
        code = run_ranks(plan, recorder, done, began)
    except KeyboardInterrupt:
        recorder.end("interrupted", exit_code.INTERRUPTED)
        there = recorder.path.exists()  # a file without a single record is taken away
        remedy = f"go on with: bench run --resume {shlex.quote(str(recorder.path))}" if there else "nothing was measured"
        click.echo(f"interrupted; {remedy}", err=True)
        return exit_code.INTERRUPTED
    except BenchError:
        recorder.end("failed", 2)
        raise
    return _close(options, recorder, code)


def _saved_ranks(options: Options) -> int | None:
    """The number of ranks of the run that is to be finished or repeated."""
    from bench.result import load

    saved = options.resume or options.like
    return None if saved is None else _saved_plan(load(saved)).world_size


def _run_joined(options: Options, arguments: list[str], joined: Joined, began: float) -> int:
    from bench.joined import run_joined
    from bench.launch import check_gpus

    if options.ranks is not None and options.ranks != joined.world_size:
        raise BenchError(f"--ranks {options.ranks}: {joined.how} started {joined.world_size} ranks; leave --ranks out")
    if (options.launches or 1) > 1:
        raise BenchError(
            f"--launches {options.launches}: {joined.how} starts the processes, so a run is one launch; start it "
            f"{options.launches} times and give the files to `bench compare` together"
        )
    device, num_gpus = choose_device(options.device)

    def check(place: Place) -> None:
        if device != "cpu":
            check_gpus(place, num_gpus, "this node")

    def open_here(place: Place) -> tuple[Plan, Recorder, DoneCases]:
        return open_run(options, arguments, device, place, joined)

    def close(recorder: Recorder, code: int) -> int:
        return _close(options, recorder, code)

    return run_joined(joined, open_here, began, check, close)


def choose_device(wanted: str) -> tuple[str, int]:
    """The device type and the number of visible GPUs. Raises BenchError for what is not there, or would be hidden."""
    import torch

    from bench.environment import unusable_accelerators

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


def open_run(
    options: Options, arguments: list[str], device: str, place: Place, joined: Joined | None
) -> tuple[Plan, Recorder, DoneCases]:
    """The plan, a recorder on an open file, and what a resumed file already has. Says on stderr what will be done."""
    from bench import progress
    from bench.against import refuse_incomparable
    from bench.result import Writer, load, new_path
    from bench.worker import host_name

    resumed: Result | None = None
    if options.resume is not None:
        resumed = load(options.resume)
        plan = _planned_before(resumed, options, place, device)
        path = options.resume
    else:
        plan = _plan(options, device, place, joined)
        path = new_path(options.output or DEFAULT_FOLDER, plan.label, host_name(), clock.utc_now())
    if options.against is not None:
        refuse_incomparable(options.against, path, (case.id for case in (*plan.cases, *plan.left_out)))
    writer = Writer.create(path) if resumed is None else Writer.reopen(path)
    done = done_cases(plan, resumed)
    left = len(plan.cases) * plan.launches - len(done)
    estimate = estimate_seconds(plan) * left / max(1, len(plan.cases) * plan.launches)
    _announce(plan, left, estimate, joined)
    recorder = Recorder(
        plan=plan,
        writer=writer,
        path=path,
        progress=progress.show(sys.stderr, left, estimate),
        command=["bench", *arguments],
        run_id=uuid.uuid4().hex,
        resumed=resumed,
        allow_unlike=options.allow_unlike,
    )
    return plan, recorder, done


def done_cases(plan: Plan, resumed: Result | None) -> DoneCases:
    """(launch, case) pairs that a file has already; what was left out for the budget is tried again."""
    if resumed is None:
        return set()
    index = {case.id: number for number, case in enumerate(plan.cases)}
    return {
        (record["launch"], index[record["case"]])
        for record in resumed.measurements
        if record["case"] in index and not (record["reason"] or "").startswith("budget")
    }


def _saved_plan(saved: Result) -> Plan:
    try:
        return Plan.from_json(saved.header["plan"])
    except BenchError as error:
        raise BenchError(f"{saved.path}: {error}; measure anew") from error


def _planned_before(resumed: Result, options: Options, place: Place, device: str) -> Plan:
    """The plan of a saved file, once it is sure that it means the same here. Raises BenchError."""
    plan = _saved_plan(resumed)
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


def _plan(options: Options, device: str, place: Place, joined: Joined | None) -> Plan:
    if options.like is not None:
        return _repeated(options, device, place)
    preset = PRESETS[options.preset or "standard"]
    backend = resolve(device, options.backend)
    suites = load_all(options.suites or _default_suites(options))
    machine = _machine(device, backend, place, preset.name)
    cases = choose_cases(suites, machine, _settings(options.settings), options.cases)
    if not cases:
        raise BenchError(f"nothing to measure: {', '.join(s.name for s in suites)} gave no case for this machine")
    budget = preset.budget_seconds if options.budget is None else parse_seconds("--budget", options.budget)
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
        launches=_launches(options, preset.launches, budget, joined),
        case_seconds=preset.case_seconds,
        budget_seconds=budget,
        timeout_seconds=preset.timeout_seconds
        if options.timeout is None
        else parse_seconds("--timeout", options.timeout),
        precision=DEFAULT_PRECISION if options.precision is None else parse_share("--precision", options.precision),
        seed=options.seed or 0,
        threads_per_rank=threads_per_rank(environment_variables(), joined, machine.num_cores, place.local_world_size),
        label=options.label or DEFAULT_LABEL,
        options=options.recorded(),
    )
    return fit_budget(plan)


def _default_suites(options: Options) -> tuple[str, ...]:
    """Those of the named cases, else the default ones."""
    named = tuple(dict.fromkeys(case.partition("/")[0] for case in options.cases))
    return named or DEFAULT_SUITES


def _launches(options: Options, of_preset: int, budget: float | None, joined: Joined | None) -> int:
    """The number asked for; else the preset's, fewer where a small budget would go into starting processes."""
    if options.launches is not None:
        if options.launches < 1:
            raise BenchError(f"--launches {options.launches}: at least 1")
        return options.launches
    if joined is not None:
        return 1
    if budget is None or options.budget is None:
        return of_preset
    return max(1, min(of_preset, int(budget / (2 * STARTUP_SECONDS))))


def _repeated(options: Options, device: str, place: Place) -> Plan:
    """`--like FILE`: its plan again, under a label of its own where one is given."""
    from bench.result import load

    assert options.like is not None
    plan = _planned_before(load(options.like), options, place, device)
    return replace(plan, label=options.label or plan.label)


def _settings(texts: tuple[str, ...]) -> Mapping[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise BenchError(f"--set {text}: KEY=VALUE, or KEY=VALUE1,VALUE2 for alternatives")
        settings.setdefault(name.strip(), []).extend(values.split(","))
    return settings


def _machine(device: str, backend: Backend, place: Place, preset: str) -> Machine:
    import torch

    from bench.environment import available_memory_bytes, usable_cores

    assert backend.device_type == device
    return Machine(
        world_size=place.world_size,
        device_type=device,
        preset=preset,
        memory_bytes=available_memory_bytes(torch.device(device), place.local_world_size),
        num_cores=usable_cores(),
        ranks_per_host=place.local_world_size,
    )


def _announce(plan: Plan, left: int, estimate: float, joined: Joined | None) -> None:
    """On stderr, before anything is measured: on what, how much, how long."""
    how = "started here" if joined is None else f"joined through {joined.how}"
    click.echo(f"devices: {_devices(plan)}; {plan.world_size} ranks ({how}), backend {plan.backend}", err=True)
    budget = "" if plan.budget_seconds is None else f" (budget {plan.budget_seconds:g} s)"
    click.echo(
        f"{len(plan.cases)} cases x {plan.launches} launch(es), {left} to do, about {estimate:.0f} s{budget}",
        err=True,
    )
    if plan.left_out:
        click.echo(f"{len(plan.left_out)} cases do not fit the budget and are left out", err=True)


def _devices(plan: Plan) -> str:
    """What is measured on, from this process's view; with GPUs that torch does not see counted."""
    import torch

    from bench.environment import present_gpus
    from bench.host import cpu_model

    if plan.device_type == "cpu":
        return f"CPU, {cpu_model() or 'model unknown'}, {plan.threads_per_rank} thread(s) a rank"
    visible, present = torch.cuda.device_count(), present_gpus()
    names = sorted({torch.cuda.get_device_name(index) for index in range(visible)})
    return f"{visible} of {max(visible, present)} GPUs ({', '.join(names)})"


def _close(options: Options, recorder: Recorder, code: int) -> int:
    """The tables and the closing lines."""
    from bench import report
    from bench.result import load
    from bench.table import wants_colour

    result, colour = load(recorder.path), wants_colour(sys.stdout, environment_variables())
    click.echo(report.tables([result], colour=colour))
    click.echo(report.verdict(result))
    size = recorder.path.stat().st_size
    click.echo(f"saved: {recorder.path} ({size / 1000:.0f} kB)")
    click.echo(f"again: bench run --like {shlex.quote(os.fspath(recorder.path))}")
    if options.against is not None:
        from bench.against import beside

        click.echo(beside(options.against, result, colour))
    return code
