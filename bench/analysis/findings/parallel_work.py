"""Does parallelism pay, and where does a training step go: figures of groups `parallelism` and `step`."""

from __future__ import annotations

from bench.analysis.findings.evidence import RunEvidence, best
from bench.analysis.findings.kinds import Figure
from bench.core.values import counted, show_quantity, show_seconds
from bench.records import metrics
from bench.records.rows import Row

STEP_PARTS = {
    "forward_share": "forward",
    "backward_share": "backward",
    "exposed_communication_share": "communication",
    "waiting_share": "waiting",
    "pipeline_idle_share": "pipeline idle",
    "optimizer_share": "optimizer",
    "other_share": "other",
}
"""Metric of the suite training_step -> name of the part of a step."""
COMMUNICATION_PARTS = ("exposed_communication_share", "waiting_share", "pipeline_idle_share")
MAX_KINDS = 6


def speedups(evidence: RunEvidence) -> dict[str, list[Row]]:
    """Kind of parallel work -> its measured cases that know how they compare with one device."""
    kinds: dict[str, list[Row]] = {}
    for row in evidence.measured:
        if row.get(metrics.SPEEDUP) is not None:
            kinds.setdefault(_kind(row), []).append(row)
    return kinds


def _kind(row: Row) -> str:
    params = row["params"]
    if params.get("implementation") == "sequence":
        return "sequence parallel"
    if row["suite"] == "inference":
        return f"{params.get('op')} split by {params.get('parallel') or 'ranks'}"
    return str(row["suite"]).replace("_", " ")


def parallelism(evidence: RunEvidence) -> list[Figure]:
    """A figure per kind of parallel work: its speed over that of one device, lowest and highest of its cases."""
    best_possible = counted(evidence.world_size, evidence.device)
    note = f"1.0x: as fast as one {evidence.device}; {evidence.world_size}.0x: {best_possible} at their best"
    figures = []
    for kind, rows in list(speedups(evidence).items())[:MAX_KINDS]:
        values = sorted(row[metrics.SPEEDUP] for row in rows)
        ends = list(dict.fromkeys(show_quantity(value, "x", 2) for value in (values[0], values[-1])))
        figures.append(
            Figure(
                group="parallelism",
                name=kind,
                text=" to ".join(ends),
                value=values[-1],
                unit="x",
                of=note,
                case=rows[0]["case"] if len(rows) == 1 else None,
            )
        )
    return figures


def step(evidence: RunEvidence) -> list[Figure]:
    """Parts of the fastest training step, the largest first; a part below half a percent is left out."""
    row = best(evidence.of_suite("training_step"), metrics.TOKEN_SPEED)
    if row is None:
        return []
    shares = {part: row[part] for part in STEP_PARTS if row.get(part) is not None}
    note = f"{show_seconds(row[metrics.TIME])}, mean of the ranks in traced calls"
    return [
        Figure(
            group="step",
            name=STEP_PARTS[part],
            text=f"{100 * share:.0f}%",
            value=share,
            unit="share",
            share=share,
            of=note,
            case=row["case"],
        )
        for part, share in sorted(shares.items(), key=lambda pair: -pair[1])
        if share >= 0.005
    ]
