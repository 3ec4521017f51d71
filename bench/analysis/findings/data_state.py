"""State of a run's data: good, rough or useless, and why; it decides whether to read on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.analysis.findings.evidence import RunEvidence
from bench.analysis.findings.kinds import DataState
from bench.core.values import counted
from bench.records.interference import large_other_load, large_steal
from bench.records.rows import Row
from bench.records.samples import MIN_SAMPLES, has_few_samples

USELESS_SHARE = 0.5
"""Share of the CPU time that others took of the median case, above which its figures tell of them."""
ROUGH_CASES = 0.25
"""Share of the cases from which on a disturbance makes the whole run rough."""


class Disturbance(NamedTuple):
    """One thing that took time away from cases."""

    share: Callable[[Row], float | None]
    """Share of the CPU time of a case; None: it was not disturbed."""
    words: str


DISTURBANCES: Mapping[str, Disturbance] = {
    "steal": Disturbance(large_steal, "the hypervisor took up to {share:.0%} of the CPU in {count} of {total} cases"),
    "other load": Disturbance(
        large_other_load, "other programs used up to {share:.0%} of the CPU in {count} of {total} cases"
    ),
}
"""Name -> disturbance; a new one is a row."""


def data_state(evidence: RunEvidence) -> DataState:
    """State of the data of a run."""
    rows = evidence.measured
    if not rows:
        return DataState("useless", "nothing was measured")
    launches = max(row["num_launches"] or 1 for row in rows)
    few = [row for row in rows if has_few_samples(row)]
    disturbed = seen_disturbances(rows)
    spoilt = _spoilt_share(rows)
    reasons = []
    if launches == 1:
        reasons.append("one launch, so there are no error bars")
    if few:
        reasons.append(f"fewer than {MIN_SAMPLES} samples in {len(few)} of {counted(len(rows), 'case')}")
    reasons += [words for _, words in disturbed]
    if evidence.result.end is None:
        reasons.append("the run has no end: it still runs, or it died")
    if spoilt > USELESS_SHARE:
        return DataState("useless", f"others took {spoilt:.0%} of the CPU in the median case; {'; '.join(reasons)}.")
    is_rough = launches == 1 or len(few) > ROUGH_CASES * len(rows) or any(is_large for is_large, _ in disturbed)
    quiet = "; no disturbance was seen" if not disturbed else ""
    if is_rough or evidence.result.end is None:
        return DataState("rough", f"{'; '.join(reasons)}{quiet}.")
    further = f"; {'; '.join(reasons)}" if reasons else ""
    return DataState("good", f"{launches} launches{further}{quiet}.")


def seen_disturbances(rows: Sequence[Row]) -> list[tuple[bool, str]]:
    """For each disturbance that was seen: if it hit enough cases to make the run rough, and a sentence."""
    seen = []
    for disturbance in DISTURBANCES.values():
        shares = [share for row in rows if (share := disturbance.share(row)) is not None]
        if shares:
            words = disturbance.words.format(share=max(shares), count=len(shares), total=len(rows))
            seen.append((len(shares) > ROUGH_CASES * len(rows), words))
    return seen


def _spoilt_share(rows: Sequence[Row]) -> float:
    """Share of the CPU time that others took of the median case."""
    shares = sorted(max((d.share(row) or 0.0) for d in DISTURBANCES.values()) for row in rows)
    return shares[len(shares) // 2]
