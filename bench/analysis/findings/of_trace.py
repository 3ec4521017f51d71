"""Findings of a recorded training job: what its stragglers cost, and whether one rank or stage is behind it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.analysis.explain.explain_trace import least_explained, ranks_text
from bench.analysis.explain.suspects import is_accused
from bench.analysis.findings.kinds import Answer, Figure, Findings, NextStep, Remark
from bench.core.values import counted, show_number, show_seconds

LEAST_SLOWDOWN = 1.05
"""Slowdown by stragglers below which no action is needed."""
MAX_KINDS = 3

Facts = Mapping[str, Any]
"""What `bench.analysis.explain.explain_trace.explain` found."""


def findings(path: Path, facts: Facts) -> Findings:
    """The answer, the step with and without stragglers, the kinds that cost most, and who is accused."""
    remarks = [*_remarks(facts)] if facts["slowdown"] >= LEAST_SLOWDOWN else []
    left_out = len(facts["steps_left_out"])
    head = f"{path}: {counted(facts['num_ranks'], 'rank')}, {counted(facts['num_steps'], 'step')}"
    head += f"; {counted(left_out, 'step')} left out, unlike the first" if left_out else ""
    details = NextStep(purpose="all places and kinds", command=f"bench explain {shlex.quote(str(path))} --all")
    return Findings(head, (Answer(_answer(facts, remarks)), *_figures(facts), *remarks, details))


def _answer(facts: Facts, remarks: list[Remark]) -> str:
    times = f"{show_number(facts['slowdown'])}x"
    if facts["slowdown"] < LEAST_SLOWDOWN:
        return f"Stragglers cost little: the step would be {times} as fast without them"
    cause = f"worst: {remarks[0].case}" if remarks else "no rank and no stage by itself is behind it"
    return f"The step would be {times} as fast without stragglers; {cause}"


def _figures(facts: Facts) -> Iterator[Figure]:
    actual = facts["actual_step_seconds"]
    for key, name in (("recorded", "step as recorded"), ("actual", "step run again"), ("ideal", "without stragglers")):
        seconds = facts[f"{key}_step_seconds"]
        of = f"{100 * seconds / actual:.0f}% of the step run again" if key == "ideal" else ""
        yield Figure(group="stragglers", name=name, text=show_seconds(seconds), value=seconds, unit="s", of=of)
    kinds = sorted(facts["slowdown_by_kind"].items(), key=lambda item: -item[1])
    for kind, slowdown in kinds[:MAX_KINDS]:
        if slowdown >= 1.005:
            yield Figure(
                group="stragglers",
                name=f"{kind} alone",
                text=f"{show_number(slowdown)}x",
                value=slowdown,
                unit="x",
                of="as long as without stragglers",
            )


def _remarks(facts: Facts) -> Iterator[Remark]:
    """Ranks and the stage that are behind the loss, also in a quarter of the steps, and more often than by chance: then
    each of them has more than its part in one step out of this many."""
    steps, stages = facts["num_steps"], sorted(map(int, facts["slowdown_by_stage"]))
    worst, num_ranks = facts["worst_ranks"], facts["num_ranks"]
    candidates = [
        (
            "worst_ranks",
            ranks_text(worst),
            len(worst) / num_ranks,
            "Check clocks, cooling and other programs there",
        ),
        ("last_stage", f"stage {stages[-1]}" if stages else "", 1 / max(1, len(stages)), "Give it fewer layers"),
    ]
    for key, name, share, remedy in candidates:
        explained, count = facts[f"explained_by_{key}"], facts[f"steps_explained_by_{key}"]
        least = least_explained(share)
        if explained is None or explained < least or share >= 1:
            continue
        if is_accused(count, steps, share, num_candidates=round(1 / share)):
            verb = "explains" if key == "last_stage" or len(worst) == 1 else "explain"
            how_often = f"at least {100 * least:.0f}% in {count} of {counted(steps, 'step')}"
            text = f"{name} {verb} {100 * min(1.0, explained):.0f}% of the time lost to stragglers, {how_often}"
            yield Remark(text=text, remedy=remedy, weight=facts["slowdown"] * min(1.0, explained), case=name)
