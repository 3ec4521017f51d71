"""Many equals: hosts of a fleet and ranks of a job, from files made by hand."""

from __future__ import annotations

import copy
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.compare import outlier_search
from bench.analysis.compare.peer_group import PeerMetric
from bench.analysis.comparison_output import outlier_tables
from bench.errors import BenchError
from bench.records import anonymize
from bench.records.file import Result, load
from tests.support.results import GPU, MILLISECOND, Record, header, measurement, not_ok, save

MS = MILLISECOND
A, B = "compute/matmul[size=1024]", "collective/all_reduce[num_bytes=1000000]"
NUM_HOSTS = 8


def head(host: str, num_ranks: int = 1, device: str = GPU, **changes: Any) -> Record:
    """A header of one host, with ranks on GPUs."""
    record = copy.deepcopy(header(num_ranks, device, **changes))
    for rank in record["environment"]["ranks"]:
        rank["host"] = host
        rank["device_type"] = "cuda"
    record["environment"]["hosts"] = {host: {"hostname": host, "kernel": "6.1"}}
    return record


def times(microseconds: float) -> list[list[int]]:
    """One rank, 9 samples within 0.2% of the value."""
    return [[round(microseconds * (1000 + step / 4)) for step in range(-4, 5)]]


def fleet(folder: Path, slow: dict[str, float], num_hosts: int = NUM_HOSTS) -> list[Result]:
    """A file a host, node0 and so on: two cases of about 1 ms, slow ones multiplied by their factor."""
    results = []
    for number in range(num_hosts):
        host = f"node{number}"
        value = 1000 * (1 + 0.002 * number) * slow.get(host, 1.0)
        path = save(
            folder / f"{host}.jsonl", head(host), measurement(A, times(value)), measurement(B, times(2 * value))
        )
        results.append(load(path))
    return results


def test_a_slow_host_is_named_with_its_siblings_range(tmp_path: Path) -> None:
    found = outlier_search.search_outliers(fleet(tmp_path, {"node3": 1.5}), "host")
    assert found.members == tuple(f"node{number}" for number in range(NUM_HOSTS))
    assert {(row["member"], row["case"], row["verdict"]) for row in found.rows} == {
        ("node3", A, "slower"),
        ("node3", B, "slower"),
    }
    row = next(row for row in found.rows if row["case"] == A)
    # Siblings: 1.000, 1.002, 1.004, 1.008, 1.010, 1.012, 1.014 ms; the median is the fourth.
    assert row["siblings_median"] == pytest.approx(1.008e-3)
    assert (row["siblings_low"], row["siblings_high"]) == pytest.approx((1.000e-3, 1.014e-3))
    assert row["value"] == pytest.approx(1.509e-3)
    assert row["ratio"] == pytest.approx(1.509 / 1.008)
    assert row["num_siblings"] == 7
    assert found.summary() == "1 of 8 hosts stands out: node3 (slower in 2 of 2 cases)"


def test_the_slow_come_before_the_fast(tmp_path: Path) -> None:
    found = outlier_search.search_outliers(fleet(tmp_path, {"node1": 0.5, "node3": 1.5}), "host")
    assert [row["verdict"] for row in found.rows] == ["slower", "slower", "faster", "faster"]
    told = "2 of 8 hosts stand out: node3 (slower in 2 of 2 cases), node1 (faster in 2 of 2 cases)"
    assert found.summary() == told


def test_equals_do_not_stand_out(tmp_path: Path) -> None:
    found = outlier_search.search_outliers(fleet(tmp_path, {}), "host")
    assert (found.rows, found.unclear, found.partial) == ((), (), ())
    assert found.summary() == "0 of 8 hosts stand out"


def test_the_files_of_a_host_are_its_launches(tmp_path: Path) -> None:
    results = fleet(tmp_path, {})
    again = load(
        save(tmp_path / "again.jsonl", head("node0"), measurement(A, times(1210)), measurement(B, times(2000)))
    )
    found = outlier_search.search_outliers([*results, again], "host", outlier=0.01)
    assert found.members == tuple(f"node{number}" for number in range(NUM_HOSTS))
    (row,) = [row for row in found.unclear if row["member"] == "node0" and row["case"] == A]
    assert row["value"] == pytest.approx(1.1e-3)  # the geometric mean of 1.00 and 1.21 ms
    assert found.num_launches == (1, 2)


def test_files_of_a_host_that_are_no_launches_of_one_run_are_refused(tmp_path: Path) -> None:
    other = load(save(tmp_path / "other.jsonl", head("node0", plan={"backend": "nccl"}), measurement(A, times(1000))))
    results = [*fleet(tmp_path, {}), other]
    with pytest.raises(BenchError, match=r"not launches of one run: plan\.backend is 'gloo' and 'nccl'"):
        outlier_search.search_outliers(results, "host")
    assert len(outlier_search.search_outliers(results, "host", allow_unlike=True).members) == NUM_HOSTS


def test_unlike_architectures_are_no_equals(tmp_path: Path) -> None:
    other = load(save(tmp_path / "other.jsonl", head("odd", device="NVIDIA H200"), measurement(A, times(1000))))
    results = [*fleet(tmp_path, {}), other]
    shown = r"different architectures.*node0, node1, node2 and 5 more; 1 x NVIDIA H200: odd;"
    with pytest.raises(BenchError, match=shown):
        outlier_search.search_outliers(results, "host")
    assert "odd" in outlier_search.search_outliers(results, "host", allow_unlike=True).members


def test_what_only_some_have_is_listed_and_who_differs_is_named(tmp_path: Path) -> None:
    results = fleet(tmp_path, {})
    odd = head("odd")
    odd["environment"]["hosts"]["odd"]["kernel"] = "5.4"
    results.append(load(save(tmp_path / "odd.jsonl", odd, measurement(A, times(1005)), not_ok(B, "failed", "killed"))))
    results.append(load(save(tmp_path / "few.jsonl", head("few"), measurement(A, times(1005)))))
    found = outlier_search.search_outliers(results, "host")
    assert found.partial == (
        {
            "suite": "collective",
            "case": B,
            "variant": None,
            "num_members": 8,
            "lacking": [{"member": "odd", "status": "failed"}, {"member": "few", "status": "missing"}],
        },
    )
    (kernel,) = [row for row in found.differences if row["field"] == "host.kernel"]
    assert [(each["value"], len(each["members"])) for each in kernel["values"]] == [("6.1", 9), ("5.4", 1)]
    assert "host.hostname" not in {row["field"] for row in found.differences}
    text = outlier_tables.show(found)
    assert "odd (failed), few (missing)" in text
    assert "5.4: odd" in text


def test_few_hosts_are_said_to_be_few(tmp_path: Path) -> None:
    found = outlier_search.search_outliers(fleet(tmp_path, {"node2": 1.5}, num_hosts=3), "host")
    assert found.rows == ()
    assert {row["member"] for row in found.unclear} >= {"node2"}
    assert "With 3 hosts the spread of the siblings cannot show an outlier" in outlier_tables.show(found)
    assert len(found.undecided) == 2


def test_one_host_and_no_common_case_are_refused(tmp_path: Path) -> None:
    results = fleet(tmp_path, {})
    with pytest.raises(BenchError, match=r"there is one host, node0; .* --among rank"):
        outlier_search.search_outliers(results[:1], "host")
    stranger = load(save(tmp_path / "s.jsonl", head("s"), measurement("collective/x", times(1000))))
    with pytest.raises(BenchError, match="no two hosts have measured the same case"):
        outlier_search.search_outliers([results[0], stranger], "host")
    with pytest.raises(BenchError, match="--among socket: there are host, rank"):
        outlier_search.search_outliers(results, "socket")


def test_published_copies_hide_their_hosts(tmp_path: Path) -> None:
    """All of them call theirs host0: each file is a host of its own."""
    folder = tmp_path / "published"
    folder.mkdir()
    results = [
        load(save(folder / r.path.name, *anonymize.anonymize_result(r))) for r in fleet(tmp_path, {"node3": 1.5})
    ]
    assert outlier_search.search_outliers(results, "host").summary().startswith("1 of 8 hosts stands out: node3.jsonl")


def job(folder: Path, slow: dict[int, float], num_ranks: int = 8, name: str = "job") -> Result:
    """One file: a slow rank makes the others wait, so that it is the fastest in the whole case."""
    rows = [times(1000 * (1 + 0.002 * rank) * slow.get(rank, 1.0))[0] for rank in range(num_ranks)]
    whole = [times(3000 if rank not in slow else 2500)[0] for rank in range(num_ranks)]
    case = measurement("tensor_parallel/mlp", whole, others={"compute_only": rows})
    return load(save(folder / f"{name}.jsonl", head("node0", num_ranks), case))


def test_a_rank_is_judged_by_its_own_work_not_by_the_whole(tmp_path: Path) -> None:
    found = outlier_search.search_outliers([job(tmp_path, {5: 1.5})], "rank")
    (row,) = found.rows
    assert (row["member"], row["variant"], row["verdict"]) == ("rank 5 (node0)", "compute_only", "slower")
    assert row["value"] == pytest.approx(1.515e-3)
    assert found.summary() == "1 of 8 ranks stands out: rank 5 (node0) (slower in 1 of 1 cases)"


def test_a_rank_alone_is_the_one_that_does_not_rest(tmp_path: Path) -> None:
    """Six ranks, two to a local index: in alone_0 the even ones work, in alone_1 the odd ones."""
    work = [times(1000 + rank)[0] for rank in range(6)]
    work[3] = times(1400)[0]
    rest = times(1)[0]
    variants = {f"alone_{i}": [work[rank] if rank % 2 == i else rest for rank in range(6)] for i in range(2)}
    case = measurement(A, [times(5000)[0]] * 6, others=variants)
    found = outlier_search.search_outliers([load(save(tmp_path / "job.jsonl", head("node0", 6), case))], "rank")
    (row,) = found.rows
    assert (row["member"], row["variant"]) == ("rank 3 (node0)", "alone")
    assert row["value"] == pytest.approx(1.4e-3)
    assert (row["siblings_low"], row["siblings_high"]) == pytest.approx((1.000e-3, 1.005e-3))


def test_compute_without_alone_is_own_work(tmp_path: Path) -> None:
    work = [times(1000 + rank)[0] for rank in range(5)] + [times(1400)[0]]
    found = outlier_search.search_outliers(
        [load(save(tmp_path / "job.jsonl", head("node0", 6), measurement(A, work)))], "rank"
    )
    assert [(row["member"], row["variant"]) for row in found.rows] == [("rank 5 (node0)", "full")]


def test_many_ranks_have_quantiles_only(tmp_path: Path) -> None:
    case = measurement("tensor_parallel/mlp", [[1]] * 70)
    whole = {"max": [3 * MS], "min": [MS], "last_rank": [0]}
    middle = [MS * (2 if rank == 9 else 1) + rank * 1000 for rank in range(70)]
    kept = {"q": [0, 0.5, 1], "nanoseconds": [[value - 1, value, value + 1] for value in middle]}
    variant = {"calls": 1, "per_iteration": whole, "rank_quantiles": kept}
    case["variants"] = {"full": variant, "compute_only": variant}
    found = outlier_search.search_outliers([load(save(tmp_path / "job.jsonl", head("node0", 70), case))], "rank")
    assert [row["member"] for row in found.rows] == ["rank 9 (node0)"]


def test_launches_of_a_job_go_together(tmp_path: Path) -> None:
    results = [job(tmp_path, {5: 1.5}, name="one"), job(tmp_path, {5: 1.7}, name="two")]
    found = outlier_search.search_outliers(results, "rank")
    assert found.num_launches == (2, 2)
    with pytest.raises(BenchError, match="not launches of one run"):
        outlier_search.search_outliers([results[0], job(tmp_path, {}, num_ranks=4, name="three")], "rank")


def test_ranks_without_own_work_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "job.jsonl", head("node0", 2), measurement(B))
    with pytest.raises(BenchError, match="no case has work that a rank does on its own"):
        outlier_search.search_outliers([load(path)], "rank")


def test_ranks_on_unlike_devices_are_no_equals(tmp_path: Path) -> None:
    record = head("node0", 6)
    record["environment"]["ranks"][5]["device_name"] = "NVIDIA H200"
    path = save(tmp_path / "job.jsonl", record, measurement(A, [times(1000)[0]] * 6))
    with pytest.raises(
        BenchError, match=r"ranks of different architectures are not comparable: .*NVIDIA H200: rank 5 \(node0\)"
    ):
        outlier_search.search_outliers([load(path)], "rank")


def test_the_gate(tmp_path: Path) -> None:
    found = outlier_search.search_outliers(fleet(tmp_path, {"node3": 1.5}), "host")
    ruling = outlier_search.rule(found, 0.05)
    assert ruling.exit_code == 1
    assert ruling.line == "Gate: FAILED: node3 slower than the siblings by more than 5%"
    passed = outlier_search.rule(found, 0.6)
    assert passed.line == "Gate: passed: nothing slower than the siblings by more than 60% in 2 of 2 cases"
    assert passed.exit_code == 0


def test_a_rate_of_some_cases(tmp_path: Path) -> None:
    results = []
    for number in range(NUM_HOSTS):
        value = 1000 * (1 + 0.002 * number) * (1.5 if number == 3 else 1.0)
        lines = [measurement(case, times(value), bytes=10**6) for case in (A, B)]
        results.append(load(save(tmp_path / f"node{number}.jsonl", head(f"node{number}"), *lines)))
    found = outlier_search.search_outliers(
        results, "host", chosen=PeerMetric("algbw_gb_per_s", {"op": ("all_reduce",)})
    )
    (row,) = found.rows
    assert (row["member"], row["case"], row["verdict"], row["unit"]) == ("node3", B, "slower", "GB/s")
    assert row["ratio"] == pytest.approx(1 / 1.5, rel=0.02)  # less of it is slower
    assert row["slowdown"] == pytest.approx(0.5, rel=0.02)
    assert outlier_search.rule(found, 0.4).exit_code == 1
    assert outlier_search.rule(found, 0.6).exit_code == 0
    text = outlier_tables.show(found)
    assert "algbw_gb_per_s" in text
    assert "0.663 GB/s" in text  # 1 MB in 1.006 ms x 1.5
    assert json.loads(outlier_tables.show(found, "json"))["metric"] == "algbw_gb_per_s"


@pytest.mark.parametrize(
    ("by", "chosen", "said"),
    [
        ("host", PeerMetric(where={"op": ("all_gather",)}), "op is one of all_reduce, matmul"),
        ("host", PeerMetric("speed"), "--metric speed: there are seconds_median"),
        ("host", PeerMetric("mfu"), "no two hosts have mfu of the same case"),
        ("rank", PeerMetric("mfu"), "time of their own work"),
    ],
)
def test_a_metric_or_cases_that_nobody_has_are_refused(tmp_path: Path, by: str, chosen: PeerMetric, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        outlier_search.search_outliers(fleet(tmp_path, {}, num_hosts=2), by, chosen=chosen)


def test_a_fast_host_passes_and_too_few_hosts_decide_nothing(tmp_path: Path) -> None:
    assert (
        outlier_search.rule(
            outlier_search.search_outliers(fleet(tmp_path / "a", {"node3": 0.5}), "host"), 0.05
        ).exit_code
        == 0
    )
    few = outlier_search.rule(outlier_search.search_outliers(fleet(tmp_path / "b", {}, num_hosts=3), "host"), 0.05)
    assert few.exit_code == 2
    assert few.line == (
        "Gate: FAILED: 0 of 2 cases decided, too few: it needs at least 5 hosts, or several launches of each"
    )


def test_formats(tmp_path: Path) -> None:
    found = outlier_search.search_outliers(fleet(tmp_path, {"node3": 1.5}), "host")
    whole = json.loads(outlier_tables.show(found, "json"))
    assert whole["standing_out"] == {"node3": {"slower": 2}}
    assert {row["case"] for row in whole["rows"]} == {A, B}
    rows = list(csv.DictReader(io.StringIO(outlier_tables.show(found, "csv"))))
    assert [row["member"] for row in rows] == ["node3", "node3"]
    text = outlier_tables.show(found)
    assert text.splitlines()[0] == found.summary()
    assert whole["findings"] == [{"kind": "answer", "text": found.summary()}]
    assert "1.00 ms to 1.01 ms" in text
    assert "One launch each" in text
    assert "| node3 |" in outlier_tables.show(found, "markdown")
