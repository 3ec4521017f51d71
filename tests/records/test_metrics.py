from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.records import metrics
from bench.records.file import load
from bench.records.rows import case_rows
from tests.support.results import GPU, MILLISECOND, header, measurement, not_ok, save

MS = MILLISECOND
CASE = "collective/all_reduce[num_bytes=1000000]"


def row(tmp_path: Path, *records: Any, case: str = CASE) -> dict[str, Any]:
    rows = case_rows([load(save(tmp_path / "a.jsonl", *records))])
    return next(r for r in rows if r["case"] == case)


def test_time_is_the_maximum_over_ranks_divided_by_the_calls(tmp_path: Path) -> None:
    # Maxima 20, 40, 30 over 10 calls each.
    found = row(tmp_path, measurement(CASE, [[20 * MS, 10 * MS, 30 * MS], [10 * MS, 40 * MS, 25 * MS]], calls=10))
    assert found["seconds_median"] == pytest.approx(0.003)
    assert (found["seconds_min"], found["seconds_max"]) == pytest.approx((0.002, 0.004))
    assert found["num_samples"] == 3
    # 1 - min/max: 1/2, 3/4, 1/6.
    assert found["skew"] == pytest.approx(0.5)


def test_bandwidths_by_hand(tmp_path: Path) -> None:
    # 4 ranks, all-reduce: bus factor 2 x 3/4 = 1.5; 1 MB in 2 ms is 0.5 GB/s.
    found = row(tmp_path, measurement(CASE, [[2 * MS]] * 4, bytes=1_000_000, bus_factor=1.5))
    assert found["algbw_gb_per_s"] == pytest.approx(0.5)
    assert found["busbw_gb_per_s"] == pytest.approx(0.75)
    copy = "compute/copy[num_bytes=1000000]"
    found = row(tmp_path / "b", measurement(copy, [[1 * MS], [4 * MS]], memory_traffic_bytes=2_000_000), case=copy)
    assert found["membw_gb_per_s"] == pytest.approx(0.5)  # 2 MB in the slowest rank's 4 ms
    assert found["algbw_gb_per_s"] is None


def test_no_bus_factor_no_bus_bandwidth(tmp_path: Path) -> None:
    found = row(tmp_path, measurement(CASE, [[2 * MS]], bytes=1_000_000))
    assert found["algbw_gb_per_s"] == pytest.approx(0.5)
    assert found["busbw_gb_per_s"] is None


def test_flops_are_per_device_and_mfu_is_against_the_sum_of_the_peaks(tmp_path: Path) -> None:
    # 2 GPUs of 989 TFLOP/s; 989e9 x 2 FLOPs in 4 ms are 247.25 TFLOP/s a device: a quarter of the peak.
    case = "tensor_parallel/mlp"
    work = {"flops": 2 * 989e9, "flops_dtype": "bfloat16", "tokens": 4096}
    found = row(tmp_path, header(device=GPU), measurement(case, [[4 * MS], [3 * MS]], **work), case=case)
    assert found["tflop_per_s"] == pytest.approx(247.25)
    assert found["mfu"] == pytest.approx(0.25)
    assert found["tokens_per_s"] == pytest.approx(1_024_000)


@pytest.mark.parametrize(("device", "dtype"), [("NVIDIA H999", "bfloat16"), (GPU, "float32"), (GPU, None)])
def test_an_unknown_peak_gives_no_mfu(tmp_path: Path, device: str, dtype: str | None) -> None:
    found = row(tmp_path, header(device=device), measurement(CASE, [[MS], [MS]], flops=1e9, flops_dtype=dtype))
    assert found["mfu"] is None
    assert found["tflop_per_s"] == pytest.approx(0.5)


def test_one_rank_of_unknown_peak_spoils_the_sum(tmp_path: Path) -> None:
    head = header(device=GPU)
    head["environment"]["ranks"][1]["device_name"] = "NVIDIA H999"
    found = row(tmp_path, head, measurement(CASE, [[MS], [MS]], flops=1e9, flops_dtype="bfloat16"))
    assert found["mfu"] is None


def test_the_ceiling_is_an_ok_matmul_of_the_type_in_the_file(tmp_path: Path) -> None:
    case = "tensor_parallel/mlp"
    small, big = "compute/matmul[size=1]", "compute/matmul[size=2]"
    found = row(
        tmp_path,
        measurement(small, [[MS], [2 * MS]], flops=4e9, flops_dtype="float32"),  # 1 TFLOP/s a device
        measurement(big, [[MS], [MS]], flops=4e9, flops_dtype="float32"),  # 2
        measurement("compute/matmul[size=3]", [[MS], [MS]], flops=4e12, flops_dtype="bfloat16"),  # another type
        not_ok("compute/matmul[size=4]", "invalid", "check before: error 1"),
        measurement("compute/matmul_mine[size=5]", [[1], [1]], flops=4e12, flops_dtype="float32"),  # another op
        measurement(case, [[MS], [MS]], flops=1e9, flops_dtype="float32"),  # 0.5
        case=case,
    )
    assert found["percent_of_measured_ceiling"] == pytest.approx(25.0)
    assert found["ceiling_source"] == big


def test_the_ceiling_is_the_largest_square_product_and_the_fastest_if_there_is_none(tmp_path: Path) -> None:
    def product(params: str, milliseconds: int) -> Any:
        size = int(params.rpartition("=")[2])
        case = f"compute/matmul[{params}]"
        return measurement(case, [[milliseconds * MS]] * 2, flops=size * 1e9, flops_dtype="float32")

    wide, cold = product("shape=qkv,size=8", 1), product("l2=cold,shape=square,size=9", 1)
    squares = [product("shape=square,size=8", 2), product("shape=square,size=2", 1), product("size=4", 1)]
    case = "tensor_parallel/mlp"
    step = measurement(case, [[MS]] * 2, flops=1e9, flops_dtype="float32")
    found = row(tmp_path, wide, cold, *squares, step, case=case)
    assert found["ceiling_source"] == "compute/matmul[shape=square,size=8]"
    assert found["percent_of_measured_ceiling"] == pytest.approx(25.0)
    found = row(tmp_path / "none", wide, cold, step, case=case)
    assert found["ceiling_source"] == "compute/matmul[l2=cold,shape=square,size=9]"


def test_the_ceiling_of_links_is_that_of_the_largest_message_one_way(tmp_path: Path) -> None:
    own = {"link_ceiling_gb_per_s": ["GB/s", "higher"]}
    rates = {"one_way[num_bytes=8]": 9.0, "one_way[num_bytes=64]": 2.0, "both_ways[num_bytes=128]": 5.0}
    links = [
        measurement(f"point_to_point/{case}", [[MS]] * 2, metrics=own, derived={"link_ceiling_gb_per_s": rate})
        for case, rate in rates.items()
    ]
    found = row(tmp_path, *links, measurement(CASE, [[MS]] * 2, bytes=1_000_000, bus_factor=1.0))
    assert found["ceiling_source"] == "point_to_point/one_way[num_bytes=64]"
    assert found["percent_of_measured_ceiling"] == pytest.approx(50.0)


def test_communication_is_held_against_the_largest_link_ceiling_in_the_file(tmp_path: Path) -> None:
    own = {"link_ceiling_gb_per_s": ["GB/s", "higher"]}
    pair, best = "point_to_point/both_ways[num_bytes=1]", "point_to_point/one_way[num_bytes=1]"
    links = [
        measurement(case, [[MS], [MS]], metrics=own, derived={"link_ceiling_gb_per_s": value})
        for case, value in ((pair, 1.0), (best, 2.0), ("mine/one_way", 9.0))
    ]
    matmul = measurement("compute/matmul[size=1]", [[MS]] * 2, flops=4e9, flops_dtype="float32")
    found = row(tmp_path, *links, matmul, measurement(CASE, [[2 * MS]] * 2, bytes=1_000_000, bus_factor=1.0))
    assert found["percent_of_measured_ceiling"] == pytest.approx(25.0)  # 0.5 GB/s
    assert found["ceiling_source"] == best
    barrier = "collective/barrier"
    found = row(tmp_path / "b", *links, measurement(barrier, [[MS]] * 2), case=barrier)
    assert (found["percent_of_measured_ceiling"], found["ceiling_source"]) == (None, None)


def test_speed_up_and_communication_compare_variants_launch_by_launch(tmp_path: Path) -> None:
    # one_device / full is 3, then 2; compute_only / full is 0.5, then 0.75: medians 2.5 and 0.625.
    found = row(
        tmp_path,
        measurement(CASE, [[2 * MS]], 0, others={"one_device": [[6 * MS]], "compute_only": [[MS]]}),
        measurement(CASE, [[4 * MS]], 1, others={"one_device": [[8 * MS]], "compute_only": [[3 * MS]]}),
    )
    assert found["speedup"] == pytest.approx(2.5)
    assert found["communication_share"] == pytest.approx(0.375)
    assert found["num_launches"] == 2


def test_a_suites_own_metrics_are_kept_apart_and_unknown_stays_unknown(tmp_path: Path) -> None:
    own = {"bubble_theory": ["share", "lower"], "fill": ["share", "lower"], "mine": ["x", "higher"]}
    one = measurement(CASE, [[MS]], 0, metrics=own, derived={"bubble_theory": 0.2, "fill": None, "mine": 3.0})
    two = measurement(CASE, [[MS]], 1, metrics=own, derived={"bubble_theory": 0.4, "mine": 5.0})
    found = row(tmp_path, one, two)
    assert found["bubble_theory"] == pytest.approx(0.3)
    assert found["idle_share"] is None
    assert (found["fill"], found["mine"]) == (None, 4.0)


def test_the_interval_is_within_one_launch_and_between_several(tmp_path: Path) -> None:
    # Ten samples: ranks 2 and 9 (see test_statistics).
    samples = [[n * MS for n in range(1, 11)]]
    one = row(tmp_path, measurement(CASE, samples))
    assert one["interval"] == "within_launch"
    assert (one["seconds_low"], one["seconds_high"]) == pytest.approx((0.002, 0.009))
    # Launch medians 1, 2, 4 ms: the median is 2; t on the logarithms (see test_statistics).
    many = row(tmp_path / "b", *(measurement(CASE, [[n * MS] * 3], launch) for launch, n in enumerate((1, 2, 4))))
    assert many["interval"] == "between_launches"
    assert many["seconds_median"] == pytest.approx(0.002)
    factor = 2 ** (4.302653 * (1 / 3 + 0.4) ** 0.5)
    assert (many["seconds_low"], many["seconds_high"]) == pytest.approx((0.002 / factor, 0.002 * factor), rel=1e-6)
    assert many["num_samples"] == 9


def test_too_few_samples_have_no_interval(tmp_path: Path) -> None:
    found = row(tmp_path, measurement(CASE, [[MS] * 5]))
    assert (found["seconds_low"], found["seconds_high"], found["interval"]) == (None, None, None)
    assert found["seconds_median"] == pytest.approx(0.001)


@pytest.mark.parametrize("status", ["invalid", "failed", "skipped"])
def test_a_case_that_is_not_ok_has_no_speed_even_where_its_samples_are_there(tmp_path: Path, status: str) -> None:
    record = measurement(CASE, [[MS]], bytes=10, flops=1e9, derived={"idle_share": 0.5}, metrics={"x": ["", "lower"]})
    found = row(tmp_path, record | {"status": status, "reason": "why"})
    assert {found[name] for name in metrics.METRICS} == {None}
    assert (found["status"], found["reason"], found["num_samples"]) == (status, "why", 0)


def test_one_bad_launch_spoils_a_case_and_a_skipped_one_does_not(tmp_path: Path) -> None:
    good = measurement(CASE, [[MS]], 0)
    spoilt = row(tmp_path, good, not_ok(CASE, "invalid", "error 1", launch=1))
    assert (spoilt["status"], spoilt["reason"], spoilt["seconds_median"]) == ("invalid", "error 1 (launch 1)", None)
    kept = row(tmp_path / "b", good, not_ok(CASE, "skipped", "budget", launch=1))
    assert (kept["status"], kept["seconds_median"]) == ("ok", pytest.approx(0.001))
    assert kept["notes"] == ["launch 1 is missing: budget"]


def test_a_sample_of_no_time_gives_no_infinite_speed(tmp_path: Path) -> None:
    found = row(tmp_path, measurement(CASE, [[0], [0]], bytes=10, bus_factor=1.0, flops=1.0))
    assert found["seconds_median"] == 0.0
    assert {found[k] for k in ("algbw_gb_per_s", "busbw_gb_per_s", "tflop_per_s", "speedup", "skew")} == {None}


def test_above_64_ranks_the_kept_maxima_count(tmp_path: Path) -> None:
    record = measurement(CASE, bytes=3_000_000)
    record["num_ranks"] = 100
    record["variants"] = {
        "full": {
            "calls": 1,
            "per_iteration": {"max": [2 * MS, 4 * MS, 3 * MS], "min": [MS, MS, MS], "last_rank": [1, 99, 5]},
            "rank_quantiles": {"q": [0, 0.25, 0.5, 0.75, 1], "nanoseconds": [[MS] * 5] * 100},
        }
    }
    found = row(tmp_path, record)
    assert found["seconds_median"] == pytest.approx(0.003)
    assert found["algbw_gb_per_s"] == pytest.approx(1.0)
    assert found["skew"] == pytest.approx(2 / 3)


def test_every_row_of_the_table_says_what_it_is() -> None:
    assert list(metrics.METRICS) == [m.name for m in metrics.METRICS.values()]
    for metric in metrics.METRICS.values():
        assert metric.better in ("higher", "lower", "neither")
        assert re.fullmatch(r"[A-Z0-9].*\.", metric.meaning), metric.name
        assert metric.unit
        assert metric.over_ranks


@pytest.mark.parametrize(("count", "known"), [(59, (False, False)), (60, (True, False)), (300, (True, True))])
def test_tails_need_three_samples_beyond(tmp_path: Path, count: int, known: tuple[bool, bool]) -> None:
    # Two launches together: 1 to `count` milliseconds, the maximum over the ranks.
    every = [n * MS for n in range(1, count + 1)]
    halves = (every[::2], every[1::2])
    found = row(tmp_path, *(measurement(CASE, [half, [MS] * len(half)], n) for n, half in enumerate(halves)))
    assert tuple(found[name] is not None for name in ("seconds_p95", "seconds_p99")) == known
    if known[0]:
        assert found["seconds_p95"] == pytest.approx((1 + 0.95 * (count - 1)) / 1000)
    if known[1]:
        assert found["seconds_p99"] == pytest.approx((1 + 0.99 * (count - 1)) / 1000)
