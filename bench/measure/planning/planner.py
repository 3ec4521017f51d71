"""Plans of `bench run` from its options: a new one, a repeated one, or the rest of one that ended early."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from bench.core.process_environment import environment_variables
from bench.core.values import parse_seconds, parse_share
from bench.errors import BenchError
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.launchers.threads import threads_per_rank
from bench.measure.planning.budget_fit import fit_budget
from bench.measure.planning.cases import choose_cases, limit_cases, skip_cases
from bench.measure.planning.options import RunOptions, parse_settings, parse_speeds
from bench.measure.planning.plan import Plan
from bench.measure.planning.presets import PRESETS, Preset, default_suites, most_cases
from bench.measure.planning.suite_loader import load_all
from bench.measure.planning.visit_overhead import startup_seconds
from bench.measure.system import devices, host
from bench.measure.system.backends import resolve
from bench.measure.system.slow_types import slow_types
from bench.records.privacy.recorded import mask_label, refuse_secret_parameters

if TYPE_CHECKING:
    from bench.records.file import Result

DEFAULT_PRECISION, DEFAULT_LABEL = 0.02, "run"


def load_earlier_run(options: RunOptions) -> Result | None:
    """The run that is to be finished or repeated."""
    from bench.records.file import load

    path = options.resume or options.like
    return None if path is None else load(path)


def saved_plan(saved: Result) -> Plan:
    """The plan in a result file. Raises BenchError if another version wrote it, or another tool measured it."""
    if (source := saved.environment.imported_from) is not None:
        raise BenchError(
            f"{saved.path}: imported from {source.tool}, whose tests bench cannot run; run {source.tool} again"
        )
    try:
        unknown = [name for name in saved.unknown if name.startswith(("header.plan.", "ranks.plan."))]
        if unknown:
            names = ", ".join(unknown)
            raise BenchError(f"the file's plan cannot be read (unknown: {names}); it was written by another version")
        return Plan.from_row(saved.plan)
    except BenchError as error:
        raise BenchError(f"{saved.path}: {error}; measure again") from error


def resume_plan(resumed: Result, options: RunOptions, place: Place, device: str) -> Plan:
    """The plan of a saved file, once it is sure that it means the same here. Raises BenchError."""
    plan = saved_plan(resumed)
    if plan.device_type != device:
        raise BenchError(f"{resumed.path}: measured on {plan.device_type}, and the device here is {device}")
    digests = {suite.name: suite.digest for suite in load_all(s.reference for s in plan.suites)}
    changed = [s for s in plan.suites if digests[s.name] != s.digest]
    if changed and not options.allow_unlike:
        change = "has changed since" if changed[0].digest else "was measured before 0.2.0, and its code is not known"
        raise BenchError(f"{resumed.path}: suite {changed[0].name} {change}; measure again, or say --allow-unlike")
    if plan.world_size != place.world_size:
        raise BenchError(f"{resumed.path}: its plan has {plan.world_size} ranks, not {place.world_size}; start as many")
    # Equal code was made sure of, or waived: the ranks are to hold the code that is there now against the plan.
    return replace(plan, suites=tuple(msgspec.structs.replace(s, digest=digests[s.name]) for s in plan.suites))


def without_pair(plan: Plan) -> Plan:
    """The plan as one of a run of its own: a side of `bench ab` that is repeated is a side no more."""
    return replace(plan, options={name: value for name, value in plan.options.items() if name != "pair"})


def with_launches(plan: Plan, launches: int | None) -> Plan:
    """The plan with another number of launches, each of which has as much time as before; None: as it is.

    Raises BenchError for a number that is none.
    """
    if launches is None:
        return plan
    if launches < 1:
        raise BenchError(f"--launches {launches}: at least 1")
    budget = plan.budget_seconds
    return replace(
        plan, launches=launches, budget_seconds=None if budget is None else budget * launches / plan.launches
    )


def with_budget(plan: Plan, budget: str | None) -> Plan:
    """The plan with another time for what is left of it, also for cases that did not fit before; None: as it is.

    Raises BenchError for a text that is not a time.
    """
    if budget is None:
        return plan
    return replace(
        plan, cases=(*plan.cases, *plan.left_out), left_out=(), budget_seconds=parse_seconds("--budget", budget)
    )


def new_plan(options: RunOptions, device: str, place: Place, joined: LauncherRank | None) -> Plan:
    """Plan a run from the options alone. Raises BenchError for options that do not fit, or no case to measure."""
    preset = PRESETS[options.preset or "standard"]
    backend = resolve(device, options.backend)
    suites = load_all(options.suites or _default_suites(options, preset, place.world_size))
    memory_bytes = devices.planned_memory_bytes(device, place.local_world_size)
    machine = place.machine(device, preset.of_suites, host.usable_cores(), memory_bytes)
    machine = replace(machine, slow_types=slow_types(device))
    cases = choose_cases(suites, machine, parse_settings(options.settings), options.cases)
    if not options.suites and not options.cases:
        cases = limit_cases(cases, most_cases(preset.name, place.world_size))
    if not cases:
        raise BenchError(f"nothing to measure: {', '.join(s.name for s in suites)} gave no case for this machine")
    cases = skip_cases(cases, options.skip)
    if not cases:
        raise BenchError(f"nothing to measure: --skip {' --skip '.join(options.skip)} leaves no case; name fewer")
    refuse_secret_parameters(cases)
    lasting = sum(case.min_seconds for case in cases)
    launches = 1 if cases and all(case.min_seconds for case in cases) else preset.launches
    budget = None if options.budget is None else parse_seconds("--budget", options.budget)
    launches = _launches(options, launches, budget, device)
    of_preset = preset.budget_on(device)
    if budget is None and of_preset is not None:
        budget = of_preset + launches * lasting  # a preset's time is for what can be shortened
    if options.visits is not None and options.visits < 1:
        raise BenchError(f"--visits {options.visits}: at least 1")
    if options.seed is not None and options.seed < 0:
        raise BenchError(f"--seed {options.seed}: 0 or more")
    plan = Plan(
        preset=preset.name,
        suites=tuple(suite.facts for suite in suites),
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
        label=mask_label(options.label or DEFAULT_LABEL),
        slow=parse_speeds("--slow", options.slow, place.world_size),
        slow_links=parse_speeds("--slow-link", options.slow_link, place.world_size),
        options=options.to_record(),
    )
    return fit_budget(plan)


def _default_suites(options: RunOptions, preset: Preset, world_size: int) -> tuple[str, ...]:
    """Return the suites of the named cases, else the preset's and further ones, of which a run takes few cases."""
    named = tuple(dict.fromkeys(case.partition("/")[0] for case in options.cases))
    return named or default_suites(preset, world_size)


def _launches(options: RunOptions, of_preset: int, budget: float | None, device: str) -> int:
    """The number asked for; else the preset's, fewer if a small budget would go into starting processes."""
    if options.launches is not None:
        if options.launches < 1:
            raise BenchError(f"--launches {options.launches}: at least 1")
        return options.launches
    if budget is None or options.budget is None:
        return of_preset
    return max(1, min(of_preset, int(budget / (2 * startup_seconds(device)))))
