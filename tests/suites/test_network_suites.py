"""point_to_point, overlap and concurrent: on real ranks, on planned thousands, and against hand-computed figures."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import BenchError, Skip
from bench.measure.planning.cases import declared_machine
from bench.measure.planning.suite_loader import load
from bench.suite import Check, Observed, Span
from bench.workloads.comm import pairs as _pairs
from bench.workloads.comm import rounds as _rounds
from suites import concurrent, overlap, point_to_point
from tests.support.command import call, saved
from tests.support.ranks import on_ranks, run_case

SENT = {"num_bytes": 1000}
P2P: dict[str, dict[str, Any]] = {op: {"op": op} | SENT for op in ("one_way", "both_ways", "ping_pong", "ring")}
PRODUCTS: dict[str, dict[str, Any]] = {
    op: {"op": op, "size": 65, "num_bytes": 4000, "dtype": dtype}
    for op, dtype in (("all_reduce", "float32"), ("all_gather", "float32"), ("reduce_scatter", "bfloat16"))
}
MESHES: dict[str, dict[str, Any]] = {
    "mesh": {"op": "mesh", "tensor": 2, "num_bytes": 4096, "dtype": "float32"},
    "gathers": {"op": "mesh", "tensor": 2, "num_bytes": 4096, "dtype": "bfloat16", "second_op": "all_gather"},
    "same": {"op": "same", "num_bytes": 4096, "dtype": "float32"},
}


def _observed(num_ranks: int, rank_seconds: dict[str, tuple[float, ...]], **changes: Any) -> Observed:
    seconds = {name: max(times) for name, times in rank_seconds.items()}
    made = Observed(num_ranks, 2, "cpu", seconds, rank_seconds, (), ())
    return replace(made, **changes)


# --- on real ranks


def _broken(rank: Any) -> dict[str, Check]:
    """Checks of work that does not do what it says."""
    work = load("point_to_point").prepare(load("point_to_point").defaults | P2P["one_way"], rank)
    found = {}
    real = point_to_point._exchange

    def silent(batches: Any, ends: Any, rank: Any) -> Any:
        return lambda: None

    def own_data(batches: Any, ends: Any, rank: Any) -> Any:
        run = real(batches, ends, rank)
        return lambda: (run(), ends.incoming.copy_(ends.outgoing))

    for name, exchange in (("nothing sent", silent), ("own data", own_data)):
        point_to_point._exchange = exchange
        found[name] = Check(*load("point_to_point").prepare({"timing": "aligned"} | P2P["one_way"], rank).check())
    point_to_point._exchange = real
    assert Check(*work.check()).passed
    return found


def _exercise(rank: Any) -> dict[str, Any]:
    """All that is asked of a group of ranks, in one spawn."""
    found: dict[str, Any] = {}
    wanted = [("point_to_point", P2P), ("overlap", PRODUCTS), ("concurrent", MESHES)]
    for suite, every in wanted:
        for name, params in every.items():
            try:
                found[f"{suite} {name}"] = run_case(rank, suite, params)
            except Skip as skip:
                found[f"{suite} {name}"] = str(skip)
    found["broken"] = _broken(rank)
    return found


@pytest.fixture(scope="module", params=[3, 4])
def world(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return on_ranks(request.param, _exercise)


def test_what_runs_is_right_before_and_after(world: list[dict[str, Any]]) -> None:
    skipped = {"concurrent mesh", "concurrent gathers"} if len(world) == 3 else set()
    for rank in world:
        assert {name for name, case in rank.items() if isinstance(case, str)} == skipped
        for name, case in rank.items():
            if name != "broken" and not isinstance(case, str):
                assert all(check.passed for check in case["checks"]), name


def test_the_variants_are_the_rounds_and_the_groups(world: list[dict[str, Any]]) -> None:
    rounds = 3  # of 3 ranks one rests in each
    first = world[0]
    there_and_back = [f"round_{n}_{part}" for n in range(rounds) for part in ("there", "back")]
    assert first["point_to_point one_way"]["variants"] == ["full", *there_and_back]
    assert first["point_to_point both_ways"]["variants"] == ["full", *(f"round_{n}" for n in range(rounds))]
    assert first["overlap all_reduce"]["variants"] == ["full", "compute_alone", "communication_alone"]
    assert first["concurrent same"]["variants"] == ["full", "first_beside", "first", "second_beside", "second"]
    if len(world) == 4:
        singles = [f"{axis}{rest}" for axis in ("first", "second") for rest in ("_beside", "", "_0", "_1")]
        assert first["concurrent mesh"]["variants"] == ["full", *singles]
        assert first["point_to_point ring"]["bytes"] == 1000


def test_bytes_are_those_of_a_rank_one_after_the_other(world: list[dict[str, Any]]) -> None:
    others = len(world) - 1
    for rank in world:
        assert rank["point_to_point one_way"]["bytes"] == 2 * others * 1000
        assert rank["point_to_point both_ways"]["bytes"] == others * 1000
        assert rank["point_to_point ping_pong"]["bytes"] is None


def test_what_was_not_received_is_caught(world: list[dict[str, Any]]) -> None:
    for name in world[0]["broken"]:
        assert not any(rank["broken"][name].passed for rank in world), name


def test_the_overlapped_compute_is_marked(world: list[dict[str, Any]]) -> None:
    spans = world[0]["overlap all_reduce"]["spans"]
    assert {span.kind for span in spans} == {"compute"}
    assert len(spans) == overlap.TRACED_CALLS


@pytest.mark.long
def test_four_ranks_on_two_cores_through_the_command(tmp_path: Path) -> None:
    cases = (
        "point_to_point/one_way[num_bytes=4096]",
        "point_to_point/ping_pong[num_bytes=8,timing=streamed]",
        "overlap/all_reduce[num_bytes=4096,size=64]",
        "concurrent/mesh[num_bytes=4096,tensor=2]",
        "collective/all_reduce[num_bytes=4096]",
    )
    named = [word for case in cases for word in ("--case", case)]
    quick = ("--preset", "smoke", "--budget", "10m", "--ranks", "4", "--device", "cpu")
    done = call("run", *named, *quick, "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    file = saved(tmp_path)
    assert {m["status"] for m in file.measurements} == {"ok"}
    pairs = next(m for m in file.measurements if m["params"]["op"] == "one_way")
    matrix = pairs["tables"]["pairs_gb_per_s"]
    assert [len(row) for row in matrix["rows"]] == [5] * 4
    assert all((cell is None) == (i == j) for i, row in enumerate(matrix["rows"]) for j, cell in enumerate(row[1:]))
    assert "ranks, GB/s, row sends to column" in call("show", str(file.path)).stdout
    mesh = next(m for m in file.measurements if m["params"]["op"] == "mesh")
    assert [row[1] for row in mesh["tables"]["groups"]["rows"]] == ["0, 1", "2, 3", "0, 2", "1, 3"]
    rows = json.loads(call("show", str(file.path), "--format", "json").stdout)["rows"]
    ceiling = max(row.get("link_ceiling_gb_per_s") or 0 for row in rows)
    for row in rows:
        if row["suite"] == "collective" and row["busbw_gb_per_s"] is not None:
            assert row["percent_of_measured_ceiling"] == pytest.approx(100 * row["busbw_gb_per_s"] / ceiling)
            assert row["ceiling_source"].startswith("point_to_point/one_way[")


# --- planned


@pytest.mark.parametrize(
    "hosts",
    [[0], [0, 0], [0] * 3, [0] * 7, [0, 0, 1, 1], [0, 1] * 4, [0] * 8 + [1] * 8 + [2] * 8, [0, 0, 0, 1, 1], range(6)],
)
def test_every_pair_meets_once_and_nobody_has_two_partners(hosts: Any) -> None:
    rounds = _rounds.rounds_of_ranks(list(hosts))
    count = len(hosts)
    met = sorted(tuple(sorted(pair)) for one_round in rounds for pair in one_round)
    assert met == [(a, b) for a in range(count) for b in range(a + 1, count)]
    assert all(len({rank for pair in one_round for rank in pair}) == 2 * len(one_round) for one_round in rounds)
    if count % 2 == 0 and len(set(hosts)) in (1, 2):
        assert len(rounds) == count - 1


def test_rounds_are_within_hosts_or_across_them() -> None:
    hosts = [rank // 8 for rank in range(64)]
    rounds = _rounds.rounds_of_ranks(hosts)
    assert len(rounds) == 63
    kinds = [{hosts[a] == hosts[b] for a, b in one_round} for one_round in rounds]
    assert kinds == [{True}] * 7 + [{False}] * 56
    assert all(len(one_round) == 32 for one_round in rounds)


def test_a_thousand_ranks_are_pairs_of_hosts() -> None:
    hosts = [rank // 8 for rank in range(1024)]
    rounds = _rounds.rounds_of_hosts(hosts)
    assert len(rounds) == 127
    assert all(len({rank for pair in one_round for rank in pair}) == 1024 for one_round in rounds)
    pairs = _pairs.Pairs(tuple(rounds), ("both",), 1, 10**6, tuple(hosts), is_latency=False)
    seconds = {
        f"round_{n}": tuple(4e-3 if 5 in {hosts[a], hosts[b]} else 1e-3 for a in range(1024) for b in [_peer(r, a)])
        for n, r in enumerate(rounds)
    }
    found = _pairs.pair_metrics(pairs, _observed(1024, seconds))
    assert found["median_pair_gb_per_s"] == pytest.approx(8.0)  # 8 ranks x 1 MB in 1 ms
    assert found["slowest_pair_gb_per_s"] == pytest.approx(2.0)
    assert found["slow_links"] == 1
    tables = _pairs.pair_tables(pairs, _observed(1024, seconds))
    assert tables["stands_out"].rows[0][0] == "host 5: each of its pairs"
    assert len(tables["pairs_seconds"].rows) == 128


def _peer(one_round: Any, rank: int) -> int:
    return next(b if a == rank else a for a, b in one_round if rank in (a, b))


# --- figures by hand


def _four(is_directed: bool, slow: float = 1.0, hosts: tuple[int, ...] = (0, 0, 0, 0)) -> tuple[_pairs.Pairs, Observed]:
    """Four ranks; 1 MB takes 1 ms, or a little more; each of rank 3's exchanges `slow` times that."""
    rounds = _rounds.rounds_of_ranks(hosts)
    directions = ("there", "back") if is_directed else ("both",)
    pairs = _pairs.Pairs(tuple(rounds), directions, 1, 10**6, hosts, is_latency=False)
    times = {}
    for number, one_round in enumerate(rounds):
        for part, base in (("_there", 1e-3), ("_back", 1.001e-3)) if is_directed else (("", 1e-3),):
            per_rank = [0.0] * 4
            for pair in one_round:
                value = base * (1 + 0.002 * number) * (slow if 3 in pair else 1)
                per_rank[pair[0]], per_rank[pair[1]] = value / 2, value  # the slower of the two counts
            times[f"round_{number}{part}"] = tuple(per_rank)
    return pairs, _observed(4, times)


def test_pairs_by_hand() -> None:
    pairs, observed = _four(True)
    figures = _pairs.pair_metrics(pairs, observed)
    assert figures["fastest_pair_gb_per_s"] == pytest.approx(1.0)
    assert figures["slowest_pair_gb_per_s"] == pytest.approx(1 / 1.001 / 1.004)
    assert figures["direction_asymmetry"] == pytest.approx(1.001)
    assert figures["slow_links"] == 0
    assert figures["link_ceiling_gb_per_s"] == figures["median_pair_gb_per_s"]
    assert set(_pairs.pair_tables(pairs, observed)) == {"pairs_gb_per_s", "pairs_seconds"}
    assert pairs.notes == ()


def test_a_slow_rank_is_in_the_table_and_counted() -> None:
    pairs, observed = _four(True, slow=4.0)
    assert _pairs.pair_metrics(pairs, observed)["slow_links"] == 2
    rows = _pairs.pair_tables(pairs, observed)["stands_out"].rows
    assert {row[0] for row in rows} == {"rank 3 as sender: to every other", "rank 3 as receiver: from every other"}
    assert [row[3] for row in rows] == pytest.approx([4.0, 4.0], rel=0.01)


def test_across_hosts_a_ring_can_have_every_ranks_link() -> None:
    pairs, observed = _four(False, hosts=(0, 0, 1, 1))
    # The rounds within the hosts come first: 1 GB/s; across, two ranks of a host at once: 2 x 1/1.003.
    assert [pairs.kind_of(pair) for pair in ((0, 1), (2, 3), (0, 2))] == ["within a host"] * 2 + ["across hosts"]
    assert _pairs.pair_metrics(pairs, observed)["link_ceiling_gb_per_s"] == pytest.approx(1.0)
    slow_network = {name: tuple(9 * t for t in times) if name != "round_0" else times
                    for name, times in observed.rank_seconds.items()}  # fmt: skip
    found = _pairs.pair_metrics(pairs, _observed(4, slow_network))["link_ceiling_gb_per_s"]
    assert found == pytest.approx(2 / 9 / 1.003, rel=0.002)


def test_few_ranks_say_what_is_needed_and_count_nothing() -> None:
    pairs = _pairs.Pairs((((0, 1),),), ("there", "back"), 1, 10**6, (0, 0), is_latency=False)
    assert pairs.notes == ("2 ranks: too few pairs to say which of the ranks stands out, which takes 4",)
    observed = _observed(2, {"round_0_there": (1e-3, 2e-3), "round_0_back": (4e-3, 1e-3)})
    figures = _pairs.pair_metrics(pairs, observed)
    assert (figures["slow_links"], figures["direction_asymmetry"]) == (None, 2.0)
    assert _pairs.pair_tables(pairs, observed)["pairs_seconds"].rows == ((0, None, 2e-3), (1, 4e-3, None))


def test_latency_is_half_of_there_and_back() -> None:
    pairs = _pairs.Pairs((((0, 1),),), ("both",), 2, 8, (0, 0), is_latency=True)
    figures = _pairs.pair_metrics(pairs, _observed(2, {"round_0": (3e-6, 4e-6)}))
    assert figures["pair_latency_seconds"] == figures["slowest_pair_latency_seconds"] == pytest.approx(2e-6)
    assert figures["slow_links"] is None


def test_overlap_by_hand() -> None:
    times = {"full": (0.013, 0.012), "compute_alone": (0.010, 0.008), "communication_alone": (0.004, 0.005)}
    spans = tuple(
        Span(rank=rank, call=call, kind="compute", start_ns=0, duration_ns=ns)
        for rank, ns in ((0, 12_000_000), (1, 10_000_000))
        for call in (0, 1)
    )
    figures = overlap.derive(_observed(2, times, spans=spans))
    # Together 15 ms one after the other, 13 at once: 2 of the 5 ms of communication are hidden.
    assert figures["hidden_share"] == pytest.approx(0.4)
    assert figures["hideable_share"] == 1.0
    assert figures["communication_over_compute"] == pytest.approx(0.5)
    assert figures["compute_slowdown"] == pytest.approx((1.2 + 1.25) / 2)


def test_concurrent_by_hand() -> None:
    shape = concurrent.layout({"op": "mesh", "tensor": 2}, 4)
    assert shape.groups == {"first": ((0, 1), (2, 3)), "second": ((0, 2), (1, 3))}
    times = {
        "full": (8.0,) * 4,
        "first": (2.0, 2.0, 3.0, 3.0), "first_0": (2.0, 1.0, 0.0, 0.0), "first_1": (0.0, 0.0, 2.0, 2.0),
        "second": (5.0,) * 4, "second_0": (4.0, 0.0, 5.0, 0.0), "second_1": (0.0, 4.0, 0.0, 4.0),
        "first_beside": (4.0, 4.0, 6.0, 5.0), "second_beside": (5.0, 8.0, 5.0, 8.0),
    }  # fmt: skip
    observed = _observed(4, times)
    assert concurrent.derive(shape, observed) == {
        "first_slowdown": 3.0, "second_slowdown": 2.0, "gain_over_serial": 1.0,
    }  # fmt: skip
    assert concurrent.tables(shape, observed)["groups"].rows == (
        ("first", "0, 1", 2.0, 2.0, 4.0, 2.0),
        ("first", "2, 3", 2.0, 3.0, 6.0, 3.0),
        ("second", "0, 2", 5.0, 5.0, 5.0, 1.0),
        ("second", "1, 3", 4.0, 5.0, 8.0, 2.0),
    )


# --- cases, bad input


def test_meshes_put_a_host_into_a_tensor_group_first() -> None:
    assert concurrent.tensor_sizes(4, 4) == [2]
    assert concurrent.tensor_sizes(16, 4) == [4, 2, 8]
    assert concurrent.tensor_sizes(1024, 8)[0] == 8
    assert concurrent.tensor_sizes(2, 2) == concurrent.tensor_sizes(3, 3) == concurrent.tensor_sizes(5, 5) == []


@pytest.mark.parametrize("preset", ["smoke", "standard", "full"])
@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_cases_are_unique_and_need_memory(preset: str, device_type: str, world_size: int) -> None:
    machine = declared_machine(world_size, device_type, preset)
    for name in ("point_to_point", "overlap", "concurrent"):
        suite = load(name)
        rows = suite.cases(machine)
        ids = [suite.case(row).id for row in rows]
        assert len(set(ids)) == len(ids) > 0
        assert all((suite.memory_bytes(row, machine) or 0) > 0 for row in rows)
        assert any("op=ring" in case or "/ring[" in case for case in ids) is False or world_size > 2


def test_smoke_is_cheap_and_ids_are_permanent() -> None:
    machine = declared_machine(2, "cpu", "smoke")
    ids = [load(name).case(row).id for name in ("point_to_point", "overlap") for row in load(name).cases(machine)]
    assert ids == [
        "point_to_point/one_way[num_bytes=4194304]",
        "point_to_point/ping_pong[num_bytes=8,timing=streamed]",
        "overlap/all_reduce[num_bytes=16777216,size=1024]",
    ]


def _stub(world_size: int) -> Any:
    return SimpleNamespace(world_size=world_size, index=0, backend="gloo")


@pytest.mark.parametrize(
    ("suite", "params", "world_size", "reason"),
    [
        ("point_to_point", P2P["one_way"], 1, "at least 2 ranks"),
        ("point_to_point", P2P["ring"], 2, "a ring of two is the pair both ways"),
        ("overlap", PRODUCTS["all_reduce"], 1, "at least 2 ranks"),
        ("concurrent", MESHES["same"], 1, "at least 2 ranks"),
        ("concurrent", MESHES["mesh"], 3, "no mesh of 3 ranks .* it takes 4 ranks"),
        ("concurrent", MESHES["mesh"] | {"tensor": 4}, 8, None),
        ("concurrent", MESHES["mesh"] | {"tensor": 3}, 8, "tensor is one of 2, 4"),
        ("concurrent", MESHES["same"] | {"tensor": 2}, 4, "has no meaning for two groups"),
    ],
)
def test_what_has_no_meaning_is_skipped_with_the_numbers(
    suite: str, params: dict[str, Any], world_size: int, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_to_point, "_ends", lambda count, rank: None)
    prepare = partial(load(suite).prepare, load(suite).defaults | params, _stub(world_size))
    if reason is None:
        assert concurrent.layout(params, world_size).groups["second"] == tuple((k, k + 4) for k in range(4))
        return
    with pytest.raises(Skip, match=reason):
        prepare()


@pytest.mark.parametrize(
    ("suite", "params"),
    [
        ("point_to_point", {"op": "one_way", "num_bytes": 0}),
        ("point_to_point", {"op": "two_ways", "num_bytes": 8}),
        ("overlap", PRODUCTS["all_reduce"] | {"size": 0}),
        ("overlap", PRODUCTS["all_reduce"] | {"num_bytes": True}),
        ("overlap", PRODUCTS["all_reduce"] | {"op": "barrier"}),
        ("concurrent", MESHES["same"] | {"first_op": "gather"}),
        ("concurrent", MESHES["same"] | {"num_bytes": -1}),
    ],
)
def test_a_bad_value_is_an_error(suite: str, params: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=f"{suite}: "):
        load(suite).prepare(load(suite).defaults | params, _stub(2))
