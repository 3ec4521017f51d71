"""Remarks on a run: what stands out beyond chance and by enough to act on, with the way to act on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from bench.analysis.findings.evidence import RunEvidence, best
from bench.analysis.findings.kinds import Remark
from bench.analysis.findings.of_explanation import ACCUSED
from bench.analysis.findings.parallel_work import COMMUNICATION_PARTS, speedups
from bench.analysis.health.verdict import HARMLESS_LIMITS
from bench.core.values import as_count, show_quantity
from bench.records import metrics
from bench.records.case_names import SHORT_TYPES
from bench.records.expected.kinds import asked_of
from bench.records.expected.words import verdict
from bench.records.expected.words import words as words_of_others
from bench.records.findings import slow_types

LARGE_LOSS = 0.25
"""Share of a step, or of a speed, from which on a loss is worth acting on."""
SLOWER_THAN_ONE = 0.9
"""Speed over that of one device below which splitting the work loses beyond noise."""


def remarks(evidence: RunEvidence, name: str = "last") -> list[Remark]:
    """All remarks on a run; `name` is the file in the commands that they give."""
    return [remark for make in _MAKERS for remark in make(evidence, name)]


def _slow_types(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    for slow in slow_types(evidence.result):
        dtype = SHORT_TYPES.get(slow.dtype, slow.dtype)
        known = "" if slow.ratio is None else f" and takes {slow.ratio:{'.0f' if slow.ratio >= 10 else '.2g'}}x as long"
        yield Remark(
            text=f"{dtype} has no instructions on this processor{known}"
            + (f" as float32 in a product of {slow.size}" if slow.ratio is not None else ""),
            remedy="Compute in float32 here",
            weight=slow.ratio or 2.0,
        )


def _loses_to_one_device(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    """The kind of parallel work that is slowest against one device, if it is slower than that."""
    slowest = {
        kind: min(rows, key=lambda row: row[metrics.SPEEDUP])
        for kind, rows in speedups(evidence).items()
        if max(row[metrics.SPEEDUP] for row in rows) < SLOWER_THAN_ONE
    }
    for kind, row in sorted(slowest.items(), key=lambda pair: pair[1][metrics.SPEEDUP])[:2]:
        speedup = row[metrics.SPEEDUP]
        share = row.get("communication_share")
        why = f" ({100 * share:.0f}% of it is communication)" if share is not None and share > 0 else ""
        remedy = _INSTEAD.get(row["suite"], "Larger work per rank, or data parallelism, may pay here")
        yield Remark(
            text=f"{kind.capitalize()} over {evidence.world_size} {evidence.device}s takes {1 / speedup:.2g}x as long "
            f"as on one{why}, at the size that was measured",
            remedy=remedy,
            weight=1 / speedup,
            case=row["case"],
        )


_INSTEAD = {"inference": "Serve a replica per device"}
"""Suite -> advice if splitting its work loses."""


def _communication(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    row = best(evidence.of_suite("training_step"), metrics.TOKEN_SPEED)
    if row is None:
        return
    share = sum(row.get(part) or 0.0 for part in COMMUNICATION_PARTS)
    if LARGE_LOSS <= share < 1:
        yield Remark(
            text=f"{100 * share:.0f}% of a training step is communication and waiting",
            remedy=f"Why: bench explain {name}",
            weight=1 / (1 - share),
            case=row["case"],
        )


def _memory_contention(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    """Ranks that take memory bandwidth from one another, by the largest copy."""
    rows = [row for row in evidence.of_suite("compute", "copy") if row.get("contention")]
    row = max(rows, key=lambda row: as_count(row["params"].get("num_bytes")) or 0, default=None)
    if row is None or row["contention"] < 1 / (1 - LARGE_LOSS):
        return
    yield Remark(
        text=f"Memory: with all ranks at work a copy takes {row['contention']:.2g}x as long as alone",
        remedy="The ranks share memory channels: fewer ranks per socket, or ranks bound to NUMA nodes",
        weight=row["contention"],
        case=row["case"],
    )


def _hidden_communication(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    """Communication that computation could hide and does not."""
    rows = [row for row in evidence.of_suite("overlap") if row.get("hidden_share") is not None]
    row = min(rows, key=lambda row: row["hidden_share"], default=None)
    if row is None or (row.get("hideable_share") or 0.0) - row["hidden_share"] < 0.5:
        return
    yield Remark(
        text=f"Computation hides {100 * max(0.0, row['hidden_share']):.0f}% of the communication next to it and could "
        f"hide {100 * row['hideable_share']:.0f}%",
        remedy="Overlapping gains little here: the communication's own work takes cores or SMs from the computation",
        weight=1.3,
        case=row["case"],
    )


def _held_clocks(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    reasons = Counter(reason for row in evidence.measured for reason in row.get("throttle_reasons") or ())
    reasons = Counter({reason: count for reason, count in reasons.items() if reason not in HARMLESS_LIMITS})
    for reason, count in reasons.most_common(1):
        if count >= LARGE_LOSS * len(evidence.measured):
            yield Remark(
                text=f"Clocks were held down in {count} of {len(evidence.measured)} cases: {reason}",
                remedy="Check power limit and cooling: bench doctor",
                weight=1.5,
            )


def _slow_pair(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    """The slowest of several pairs, if it is far behind the median one."""
    row = best(evidence.of_suite(metrics.LINK_SUITE), "median_pair_gb_per_s")
    if row is None or evidence.world_size < 3 or not row.get("slowest_pair_gb_per_s"):
        return
    ratio = row["median_pair_gb_per_s"] / row["slowest_pair_gb_per_s"]
    if ratio >= 1 / (1 - LARGE_LOSS) and not row.get("slow_links"):
        yield Remark(
            text=f"The slowest pair of ranks has {show_quantity(row['slowest_pair_gb_per_s'], 'GB/s')}, the median "
            f"pair {ratio:.2g}x as much",
            remedy=f"See which: bench explain {name}",
            weight=ratio,
            case=row["case"],
        )


def _below_others(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    """The case that is furthest below the range of others: advice, which changes no verdict and no exit code."""
    shares = []
    for row in evidence.measured:
        asked = asked_of(row)
        if asked is not None and verdict(row) == "below":
            shares.append((row[asked.metric] / row["expected_low"], row))
    if not shares:
        return
    share, row = min(shares, key=lambda pair: pair[0])
    end = f"{100 * share:.0f}% of its lower end"
    more = f" ({len(shares)} cases lie below theirs)" if len(shares) > 1 else ""
    yield Remark(
        text=f"{evidence.names.across(row['case'])} is {words_of_others(row)}, at {end}{more}",
        remedy="Conditions of the sources: bench help normal",
        weight=1 / share if share > 0 else 100.0,
        case=row["case"],
    )


def _doctor(evidence: RunEvidence, name: str) -> Iterator[Remark]:
    """Failures that the doctor found before the run."""
    doctor = evidence.result.header.doctor
    for finding in () if doctor is None else doctor.findings:
        if finding.level == "fail":
            yield Remark(text=f"{finding.what}: {finding.value}", remedy=finding.advice, weight=ACCUSED)


_MAKERS: tuple[Callable[[RunEvidence, str], Iterator[Remark]], ...] = (
    _doctor, _slow_types, _loses_to_one_device, _communication, _slow_pair, _memory_contention, _held_clocks,
    _hidden_communication, _below_others,
)  # fmt: skip
"""A new kind of remark is a row."""
