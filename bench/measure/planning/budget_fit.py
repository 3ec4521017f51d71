"""The cases of a plan that fit its budget, and the plan's length, by first guesses before anything has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.errors import BenchError
from bench.measure.planning.plan import Plan
from bench.measure.planning.visit_overhead import CLOSING_SECONDS, guess_overhead, startup_seconds
from bench.records.lines.header import PlannedCase

LEAST_SAMPLES_SECONDS = 0.05
MIN_CASE_SECONDS = 0.25
"""A case that would get less than this, all included, is left out for the budget."""


def fit_budget(plan: Plan) -> Plan:
    """Leave out the least informative cases if the budget has no room for them.

    Raises BenchError, with the time that it takes, if not one case fits, or one of those asked for by name does not.
    """
    if plan.budget_seconds is None:
        return plan
    room = plan.budget_seconds - plan.launches * startup_seconds(plan.device_type)
    room -= plan.launches * sum(case.min_seconds for case in plan.cases)
    count = min(len(plan.cases), int(room / plan.launches / MIN_CASE_SECONDS))
    named = bool(plan.options.get("cases") and plan.options.get("budget"))
    # What lasts has its time set aside; without such a case the quickest of the others must fit, samples included.
    lasting = any(case.min_seconds for case in plan.cases)
    least = 0.0 if lasting else min(guess_overhead(case.suite) for case in plan.cases) + LEAST_SAMPLES_SECONDS
    if count < (len(plan.cases) if named else 1) or room / plan.launches < least:
        raise BenchError(_describe_shortage(plan, named))
    kept = _keep(plan.cases, count)
    return replace(plan, cases=kept, left_out=tuple(case for case in plan.cases if case not in kept))


def _keep(cases: Sequence[PlannedCase], count: int) -> tuple[PlannedCase, ...]:
    """Keep this many cases, in order: those that last, whose time was set aside, and the most informative others."""
    lasting = [case for case in cases if case.min_seconds]
    others = [case for case in cases if not case.min_seconds][: max(0, count - len(lasting))]
    return tuple(case for case in cases if case in lasting or case in others)


def sampling_seconds(case_seconds: float, visits: int) -> float:
    """Rough length of all visits to a case that has all the time that it may have, with what surrounds its samples."""
    return case_seconds * 1.25 + 0.3 * visits


def _describe_shortage(plan: Plan, named: bool) -> str:
    """Name the fault of a budget, and the least that is needed."""
    head, starts = f"--budget {plan.budget_seconds:g}s", plan.launches * startup_seconds(plan.device_type)
    lasting = next((case for case in plan.cases if case.min_seconds), None)
    if lasting is not None:
        whole = starts + plan.launches * sum(case.min_seconds or MIN_CASE_SECONDS for case in plan.cases)
        return (
            f"{head}: {lasting.id} alone lasts {lasting.min_seconds:g} s in each of {plan.launches} launch(es), and "
            f"all that was asked for takes about {whole:.0f} s; give more, or set it shorter"
        )
    if named:
        least = starts + plan.launches * MIN_CASE_SECONDS * len(plan.cases)
        return (
            f"{head}: {len(plan.cases)} cases by name in {plan.launches} launch(es) take at least {least:.0f} s, of "
            f"which {starts:g} s to start the processes; give more, or name fewer"
        )
    return (
        f"{head} with {plan.launches} launch(es): starting them takes about {starts:g} s, which leaves nothing to "
        f"measure; give more, at least {starts + 2 * plan.launches:g} s, or --launches 1"
    )


def estimate_seconds(plan: Plan) -> float:
    """Rough length of the run by first guesses: the start-ups, all sampling, and what surrounds the samples."""
    around = plan.visits * sum(guess_overhead(case.suite) for case in plan.cases)
    lasting = sum(case.min_seconds for case in plan.cases)
    launch_seconds = startup_seconds(plan.device_type) + around + len(plan.cases) * plan.case_seconds + lasting
    seconds = plan.launches * launch_seconds + CLOSING_SECONDS
    return seconds if plan.budget_seconds is None else min(seconds, plan.budget_seconds)
