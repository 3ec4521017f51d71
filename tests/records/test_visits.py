"""Merging the visits to a case, on records made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.records import visits
from bench.records.file import load
from bench.records.lines import decoding
from bench.records.lines.kinds import Measurement
from bench.records.lines.parts import CheckOutcome, HostInterference, Interference
from tests.support.results import Record, header, line, measurement, not_ok, planned, save, save_unchecked

A, B = "collective/all_reduce[num_bytes=1000]", "collective/broadcast[num_bytes=1000]"


def visit(number: int, rows: list[list[int]], case: str = A, **fields: Any) -> Record:
    return measurement(case, rows, **fields) | {"visit": number}


def merge(records: list[Record]) -> Measurement:
    return visits.merge([line(record) for record in records])


def merge_launches(records: list[Record]) -> list[Measurement]:
    return visits.merge_launches(line(record) for record in records)


def variants(whole: Measurement) -> Any:
    """Plain values of the samples."""
    return decoding.plain(whole)["variants"]


def nanoseconds(whole: Measurement) -> Any:
    return variants(whole)["full"]["nanoseconds"]


def steal_share(whole: Measurement) -> Any:
    assert whole.disturbance is not None
    return whole.disturbance.hosts[0].steal_share


def num_samples(whole: Measurement) -> int:
    assert whole.stop is not None
    assert whole.stop.samples is not None
    return whole.stop.samples


def of_many_ranks(number: int, slowest: list[int], quantiles: list[list[int]]) -> Record:
    """What is kept above 64 ranks: here of two only, which the reader need not know."""
    variant = {
        "calls": 1,
        "per_iteration": {"max": slowest, "min": [1] * len(slowest), "last_rank": [number] * len(slowest)},
        "rank_quantiles": {"q": [0.0, 0.5, 1.0], "nanoseconds": quantiles},
    }
    return visit(number, [[1], [1]], variants={"full": variant})


def test_samples_follow_each_other_by_rank_and_variant_in_the_order_of_visits() -> None:
    first = visit(0, [[1, 2], [3, 4]], others={"half": [[5, 6], [7, 8]]})
    second = visit(1, [[10], [30]], others={"half": [[50], [70]]})
    (whole,) = merge_launches([second, first])
    assert variants(whole) == {
        "full": {"calls": 1, "nanoseconds": [[1, 2, 10], [3, 4, 30]]},
        "half": {"calls": 1, "nanoseconds": [[5, 6, 50], [7, 8, 70]]},
    }
    assert whole.visit == 0
    assert first["variants"]["full"]["nanoseconds"] == [[1, 2], [3, 4]]  # the records are left as they were


def test_above_64_ranks_iterations_follow_each_other_and_quantiles_are_medians() -> None:
    records = [
        of_many_ranks(0, [9, 8], [[1, 2, 9], [1, 3, 8]]),
        of_many_ranks(1, [7], [[3, 4, 7], [5, 5, 5]]),
        of_many_ranks(2, [6], [[2, 9, 5], [2, 4, 6]]),
    ]
    variant = variants(merge(records))["full"]
    assert variant["per_iteration"] == {"max": [9, 8, 7, 6], "min": [1, 1, 1, 1], "last_rank": [0, 0, 1, 2]}
    assert variant["rank_quantiles"] == {"q": [0.0, 0.5, 1.0], "nanoseconds": [[2, 4, 7], [2, 4, 6]]}


def test_how_sampling_ended_is_the_last_reason_the_widest_interval_and_the_sums() -> None:
    stops = [
        {"reason": "precision", "half_width": 0.01, "warmup_calls": 3, "samples": 2},
        {"reason": "precision", "half_width": 0.05, "warmup_calls": 4, "samples": 1},
        {"reason": "time", "half_width": None, "warmup_calls": 5, "samples": 1},
    ]
    rows = [[[1, 2]], [[3]], [[4]]]
    whole = merge([visit(n, rows[n], stop=stops[n], seconds=0.5 + n) for n in range(3)])
    assert decoding.plain(whole)["stop"] == {"reason": "time", "half_width": 0.05, "warmup_calls": 12, "samples": 4}
    assert whole.seconds == 4.5


def test_derived_values_are_the_medians_of_the_known_and_checks_the_worst() -> None:
    def check(before: float, after: float | None) -> Record:
        return {"error": before, "tolerance": 9.0, "scope": "full", "error_after": after}

    values = [{"share": 0.1, "rate": None}, {"share": 0.4, "rate": 8.0}, {"share": None, "rate": None}]
    checks = [check(1.0, 5.0), check(3.0, 2.0), check(2.0, None)]
    whole = merge([visit(n, [[1]], derived=values[n], check=checks[n]) for n in range(3)])
    assert whole.derived == {"share": 0.25, "rate": 8.0}
    assert decoding.plain(whole)["check"] == {"error": 3.0, "tolerance": 9.0, "scope": "full", "error_after": 5.0}


@pytest.mark.parametrize(
    ("statuses", "status", "reason"),
    [
        (("ok", "ok"), "ok", None),
        (("skipped", "ok"), "ok", None),
        (("ok", "skipped"), "ok", None),
        (("ok", "failed"), "failed", "visit 1"),
        (("failed", "invalid"), "invalid", "visit 1"),
        (("invalid", "failed"), "invalid", "visit 0"),
        (("failed", "failed"), "failed", "visit 0"),
        (("skipped", "skipped"), "skipped", "visit 0"),
    ],
)
def test_the_worst_visit_says_what_became_of_the_case(statuses: tuple[str, ...], status: str, reason: str) -> None:
    records = [
        visit(n, [[n + 1]]) if each == "ok" else not_ok(A, each, f"visit {n}") | {"visit": n}
        for n, each in enumerate(statuses)
    ]
    whole = merge(records)
    assert (whole.status, whole.reason) == (status, reason)
    assert (num_samples(whole) if whole.stop else 0) == statuses.count("ok")
    if status == "ok":
        known = [[n + 1] for n, each in enumerate(statuses) if each == "ok"]
        assert nanoseconds(whole) == [[ns for samples in known for ns in samples]]
        assert whole.work is not None


def test_an_invalid_visit_keeps_the_error_that_made_it_invalid() -> None:
    failing = {"error": None, "tolerance": 0.5, "scope": "full", "error_after": None}
    bad = not_ok(A, "invalid", "not a number") | {"visit": 1, "check": failing}
    assert merge([visit(0, [[1]]), bad]).check == CheckOutcome(error=None, tolerance=0.5, scope="full")


def test_only_visits_with_the_calls_of_the_first_are_merged_and_a_note_says_so() -> None:
    records = [
        visit(0, [[1, 2], [3, 4]], calls=4, notes=["suite's own"], launch=2),
        visit(1, [[5, 6, 7], [8, 9, 9]], calls=5, notes=["suite's own"], launch=2),
        visit(2, [[10], [11]], calls=4, notes=["another"], launch=2),
    ]
    whole = merge(records)
    assert variants(whole)["full"] == {"calls": 4, "nanoseconds": [[1, 2, 10], [3, 4, 11]]}
    assert num_samples(whole) == 3
    assert whole.notes == [
        "suite's own",
        "another",
        "launch 2: 3 samples of visit 1 are left out: unlike calls in each",
    ]


def test_spans_are_of_the_first_visit_that_is_ok() -> None:
    spans = [[[0, 0, "sum", None, None, n, 1]] for n in range(2)]
    ok = [visit(n + 1, [[1]], spans=spans[n], traced_call_ns=[[n]]) for n in range(2)]
    whole = merge([not_ok(A, "skipped", "why") | {"visit": 0}, *ok])
    assert (decoding.plain(whole)["spans"], whole.traced_call_ns) == ([[*spans[0][0], None, None, None, None]], [[0]])


def test_disturbances_are_kept_at_their_worst() -> None:
    def row(share: float) -> Record:
        return {"hosts": [{"host": "node07", "steal_share": share}], "ranks": []}

    records = [visit(n, [[1]], disturbance=row(share)) for n, share in enumerate((0.1, 0.3, 0.2))]
    assert merge(records).disturbance == Interference(hosts=[HostInterference(host="node07", steal_share=0.3)])
    assert merge(records[:1]).disturbance == Interference(hosts=[HostInterference(host="node07", steal_share=0.1)])


def test_within_a_visit_the_later_record_holds() -> None:
    torn, again = visit(1, [[7]], status="failed", reason="killed", variants={}), visit(1, [[8, 9]])
    (whole,) = merge_launches([visit(0, [[1]]), torn, again])
    assert whole.status == "ok"
    assert nanoseconds(whole) == [[1, 8, 9]]


def test_launches_and_cases_stay_apart() -> None:
    records = [visit(0, [[1]]), visit(0, [[2]], B), visit(1, [[3]]), visit(0, [[4]], launch=1), visit(1, [[5]], B)]
    found = {(r.case, r.launch): nanoseconds(r) for r in merge_launches(records)}
    assert found == {(A, 0): [[1, 3]], (B, 0): [[2, 5]], (A, 1): [[4]]}


def test_a_file_of_before_visits_is_one_visit_a_launch(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", measurement(A, [[1, 2, 3]]), not_ok(B, "failed", "why"))
    ok, failed = load(path).latest()
    assert (ok.visit, num_samples(ok), ok.seconds) == (0, 3, 0.5)
    assert variants(ok) == {"full": {"calls": 1, "nanoseconds": [[1, 2, 3]]}}
    assert (failed.variants, failed.stop, failed.check) == ({}, None, None)


def test_readers_get_cases_in_the_plan_s_order(tmp_path: Path) -> None:
    plan = {"cases": [planned(B), planned(A)], "left_out": [planned("compute/matmul")]}
    records = [not_ok("compute/matmul", "skipped", "budget"), visit(0, [[1]]), visit(0, [[2]], B), visit(1, [[3]])]
    found = load(save(tmp_path / "a.jsonl", header(plan=plan), *records))
    assert [record.case for record in found.latest()] == [B, A, "compute/matmul"]


@pytest.mark.parametrize("number", [-1, 0.5, True, "0", None])
def test_a_visit_that_is_no_number_of_one_is_refused(tmp_path: Path, number: Any) -> None:
    path = save_unchecked(tmp_path / "a.jsonl", measurement(A) | {"visit": number})
    with pytest.raises(BenchError, match="visit: Expected"):
        load(path)


def stolen(number: int, rows: list[list[int]], share: float | None) -> Record:
    return visit(number, rows, disturbance={"hosts": [{"host": "node07", "steal_share": share}], "ranks": []})


def test_a_visit_while_the_hypervisor_took_the_cores_does_not_count_beside_a_calmer_one() -> None:
    whole = merge([stolen(0, [[1, 2]], 0.01), stolen(1, [[90, 91]], 0.30), stolen(2, [[3]], None)])
    assert nanoseconds(whole) == [[1, 2, 3]]
    assert num_samples(whole) == 3
    assert steal_share(whole) == 0.01
    assert [note for note in whole.notes if "hypervisor or other processes had over 5%" in note]


def loaded(number: int, rows: list[list[int]], share: float, noise: float) -> Record:
    host = {"host": "node07", "steal_share": 0.0, "other_load_share": share, "other_load_noise_share": noise}
    return visit(number, rows, disturbance={"hosts": [host], "ranks": []})


def test_nor_does_one_in_which_other_processes_had_the_cores_beyond_what_coarse_counting_makes_of_nothing() -> None:
    whole = merge([loaded(0, [[1]], 0.20, 0.17), loaded(1, [[90]], 0.40, 0.17), loaded(2, [[3]], 0.0, 0.15)])
    assert nanoseconds(whole) == [[1, 3]]
    # The rule sees who had the cores, not the samples.
    assert nanoseconds(merge([loaded(0, [[90]], 0.0, 0.1), loaded(1, [[1]], 0.9, 0.1)])) == [[90]]


def test_where_no_visit_was_calm_all_count() -> None:
    whole = merge([stolen(0, [[1]], 0.2), stolen(1, [[9]], 0.3)])
    assert nanoseconds(whole) == [[1, 9]]
    assert steal_share(whole) == 0.3
    assert whole.notes == []


def test_a_visit_that_outlasts_spells_always_counts() -> None:
    long = stolen(0, [[90]], 0.5)
    long["disturbance"]["ranks"] = [{"rank": 0, "seconds": 600.0}]
    assert nanoseconds(merge([long, stolen(1, [[1]], 0.0)])) == [[90, 1]]
