"""Findings of one result: the last screen of `bench run`, the head of its page, and JSON of `bench show`."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.analysis.findings.data_state import data_state
from bench.analysis.findings.evidence import RunEvidence
from bench.analysis.findings.kinds import Answer, Correctness, DataState, Findings, Item, NextStep, Remark, Unmeasured
from bench.analysis.findings.of_explanation import ACCUSED, suspect_remarks
from bench.analysis.findings.parallel_work import parallelism, step
from bench.analysis.findings.reached import reached
from bench.analysis.findings.standing_out import remarks
from bench.analysis.health import verdict
from bench.core.clock import seconds_between
from bench.core.values import first_few, show_duration
from bench.records.environments import emulation_label
from bench.records.last_result import LAST, is_newest
from bench.records.visits import was_left_out
from bench.stats.intervals import excluded_share

if TYPE_CHECKING:
    from bench.records.file import Result

MAX_REASON = 160
"""Characters of a reason that are shown; the file has all of it."""


def run_findings(result: Result, *others: Result) -> Findings:
    """Findings of one run, ranked; `others` are further files with launches of it."""
    evidence = RunEvidence(result, others)
    name = command_name(result)
    items: list[Item] = [*_verdict(result), _state(evidence)]
    items += [*reached(evidence), *parallelism(evidence), *step(evidence)]
    items += [*suspect_remarks(result.latest()), *remarks(evidence, name)]
    items += [*_correctness(evidence), *_unmeasured(evidence, name), *_next_steps(evidence, name)]
    return Findings(head(evidence), tuple(items))


MAX_PATH = 34
"""Characters of a path that commands have room for."""


def command_name(result: Result) -> str:
    """Name by which commands find the file: `last` if it is the newest of the results folder, else its path or FILE."""
    if is_newest(result.path):
        return LAST
    path = shlex.quote(str(result.path))
    return path if len(path) <= MAX_PATH else "FILE"


def head(evidence: RunEvidence) -> str:
    """Machine, backend, versions; preset, cases, time, launches."""
    result, plan = evidence.result, evidence.result.plan
    versions = result.environment.versions
    software = [plan.backend, *(f"{name} {versions[name]}" for name in ("torch", "nccl") if versions.get(name))]
    emulated = emulation_label(result.environment.ranks)
    planned = len({*result.planned_cases(), *(row["case"] for row in evidence.rows)})
    launches = len({record.launch for record in result.measurements})
    seconds = _run_seconds(result)
    extent = [
        f"{len(evidence.measured)} of {planned} cases",
        show_duration(seconds) if seconds is not None else None,
        "one launch" if launches == 1 else f"{launches} launches",
    ]
    label = f"{result.label}: " if result.label not in ("", "run") else ""
    known = ", ".join(str(word) for word in software if word)
    where = f"{label}{result.architecture}" + (f" ({known})" if known else "")
    warned = f" EMULATED: {emulated}." if emulated and emulated not in where else ""
    return f"{where}{warned}   {plan.preset or 'run'}: {', '.join(word for word in extent if word)}"


def _run_seconds(result: Result) -> float | None:
    """Time from the header to the end line; None of a run that has no end, or was resumed."""
    if result.end is None or result.resumes:
        return None
    return seconds_between(result.header.started, result.end.ended)


def _verdict(result: Result) -> list[Answer | Remark]:
    """Verdict on the machine of a run whose preset promises one, and a remark per rule that is not kept."""
    if not verdict.is_judged(result):
        return []
    health = verdict.judge(result)
    broken = [
        Remark(text=f"{name}: {outcome.figure}", remedy="See all rules: bench show last", weight=ACCUSED)
        for name, outcome in health.outcomes.items()
        if outcome.level == "bad"
    ]
    return [Answer(health.line()), *broken]


def _state(evidence: RunEvidence) -> DataState:
    """State of the data; of a run that measured nothing or failed with the reason."""
    state, end = data_state(evidence), evidence.result.end
    reason = _shorten(end.reason) if end is not None and end.reason else ""
    if evidence.measured:
        return DataState(state.quality, f"{state.text} The run failed: {reason}.") if reason else state
    failed = _count_alike([str(row["reason"]) for row in evidence.rows if row["status"] in ("failed", "invalid")])
    others = _count_alike([str(row["reason"]) for row in evidence.rows if row["status"] == "skipped"])
    why = next((words for words, _ in failed), reason or next((words for words, _ in others), ""))
    return DataState("useless", f"nothing was measured{f': {why}' if why else ''}")


def _correctness(evidence: RunEvidence) -> list[Correctness]:
    wrong = [row for row in evidence.rows if row["status"] == "invalid"]
    right = len(evidence.measured)
    if wrong:
        named = [f"{evidence.names.across(row['case'])}: {_shorten(row['reason'] or '')}" for row in wrong]
        return [Correctness(f"{len(wrong)} of {right + len(wrong)} results: {first_few(named, 2)}", right, len(wrong))]
    if not right:
        return []
    reduced = sum(row.get("check_scope") == "reduced" for row in evidence.measured)
    unchecked = sum(row.get("check_error") is None for row in evidence.measured)
    if unchecked == right:
        return []  # imported: nothing says that it was checked
    scope = f" ({reduced} of them at a reduced size)" if reduced else ""
    checked = f"all {right - unchecked} measured cases, checked before and after{scope}"
    return [Correctness(checked + _looks(evidence.measured), right, 0)]


def _looks(rows: Sequence[Mapping[str, Any]]) -> str:
    """Number of timed calls that were looked at, and the share of wrong ones that this excludes; in a clause.

    Files that were written before there were looks say nothing of them.
    """
    counts = sorted(count for row in rows if (count := row.get("looked_samples")))
    if not counts:
        return ""
    middle = counts[(len(counts) - 1) // 2]
    cases = "in the median case" if len(counts) == len(rows) else f"in the median of {len(counts)} cases"
    return (
        f"; {sum(counts):,} timed samples looked at, {middle} {cases}: faults in over "
        f"{100 * excluded_share(middle):.2g}% of its calls are excluded"
    )


def _unmeasured(evidence: RunEvidence, name: str) -> list[Unmeasured]:
    """Cases without a speed by reason, the most frequent first."""
    result = evidence.result
    failed = _count_alike([str(row["reason"]) for row in evidence.rows if row["status"] == "failed"])
    left_out = {record.case for record in result.latest() if was_left_out(record)}
    skipped = [row for row in evidence.rows if row["status"] == "skipped"]
    others = _count_alike([str(row["reason"]) for row in skipped if row["case"] not in left_out])
    no_time = sum(row["case"] in left_out for row in skipped)
    missing = len(set(result.planned_cases()) - {record.case for record in result.measurements})
    found = [
        Unmeasured(text=f"failed: {reason}", num_cases=count, remedy=f"bench show {name}") for reason, count in failed
    ]
    if no_time:
        found.append(Unmeasured(text="out of time", num_cases=no_time, remedy=_resume(evidence, name)))
    if missing:
        found.append(Unmeasured(text="the run ended before", num_cases=missing, remedy=_resume(evidence, name)))
    return found + [Unmeasured(text=reason, num_cases=count) for reason, count in others]


def _count_alike(reasons: Sequence[str]) -> list[tuple[str, int]]:
    """Reasons with their counts, the most frequent first; those that differ in numbers alone count as the first."""
    first: dict[str, str] = {}
    counts = Counter(first.setdefault(re.sub(r"\d+(\.\d+)?", "#", reason), reason) for reason in reasons)
    return [(_shorten(reason), count) for reason, count in counts.most_common()]


def _resume(evidence: RunEvidence, name: str) -> str:
    seconds = evidence.result.plan.budget_seconds
    budget = f" --budget {math.ceil(2 * seconds / 60)}m" if seconds else ""
    return f"bench run --resume {name}{budget}"


def _next_steps(evidence: RunEvidence, name: str) -> list[NextStep]:
    steps = []
    is_own = evidence.result.environment.imported_from is None  # bench cannot repeat what another tool measured
    if is_own and evidence.measured and all(row["num_launches"] == 1 for row in evidence.measured):
        again = "bench run" if evidence.result.plan.preset == "smoke" else f"bench run --like {name} --launches 3"
        steps.append(NextStep(purpose="error bars", command=again))
    if not evidence.measured:
        has_failed = any(row["status"] in ("failed", "invalid") for row in evidence.rows)
        if has_failed:
            return [NextStep(purpose="each reason", command=f"bench show {name}")]
        return [NextStep(purpose="look at the machine", command="bench doctor")]
    steps.append(NextStep(purpose="all numbers", command=f"bench show {name}"))
    steps.append(NextStep(purpose="why", command=f"bench explain {name}"))
    steps.append(NextStep(purpose="page", command=f"bench report {name} -o report.html"))
    return steps


def _shorten(text: str) -> str:
    """One reason without what follows its first clause, if it is long."""
    text = text.removesuffix(".")
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 3]}..."
