"""The collective suite: on 2, 3 and 4 real ranks, and against hand-computed figures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.errors import BenchError, Skip
from bench.measure.planning.suite_loader import load
from bench.suite import Check, Machine
from bench.workloads.comm import exact_check
from suites import collective
from tests.support.ranks import cpu_machine, on_ranks, run_case

SUITE = load("collective")
MOVING = [name for name in collective.OPERATIONS if name != "barrier"]


def _broken_bindings() -> dict[str, tuple[str, Any]]:
    """Name -> (operation, a binding of it that does the wrong thing)."""
    sound = collective.OPERATIONS

    def then(call: Any, spoil: Any) -> Any:
        def run(**options: Any) -> None:
            call(**options)
            spoil()

        return run

    def off_by_one(dist: Any, b: Any) -> Any:
        return then(partial(dist.all_reduce, b.input), lambda: b.input[-1:].add_(1))

    def not_a_number(dist: Any, b: Any) -> Any:
        return then(partial(dist.all_reduce, b.input), lambda: b.input[:1].fill_(torch.nan))

    def rotated(dist: Any, b: Any) -> Any:
        gather = sound["all_gather"].bind(dist, b)
        return then(gather, lambda: b.output.copy_(b.output.roll(len(b.input))))

    def own_data_only(dist: Any, b: Any) -> Any:
        return lambda **options: b.output.copy_(b.input)

    def nothing(dist: Any, b: Any) -> Any:
        return lambda **options: None

    return {
        "last element off by one": ("all_reduce", off_by_one),
        "a NaN": ("all_reduce", not_a_number),
        "no communication": ("all_reduce", nothing),
        "rotated": ("all_gather", rotated),
        "own data only": ("all_to_all", own_data_only),
        "stale output": ("reduce_scatter", nothing),
        "no broadcast": ("broadcast", nothing),
        "no reduce": ("reduce", nothing),
        "no gather": ("gather", nothing),
        "no scatter": ("scatter", nothing),
        "no barrier": ("barrier", nothing),
    }


def _check_once(rank: Any, params: dict[str, Any]) -> Check:
    return Check(*SUITE.prepare(SUITE.defaults | params, rank).check())


def _sized(op: str, num_bytes: int) -> dict[str, Any]:
    return {"op": op} if op == "barrier" else {"op": op, "num_bytes": num_bytes}


def _exercise(rank: Any) -> dict[str, Any]:
    """All that is asked of a group of ranks, in one spawn."""
    sound = {op: run_case(rank, "collective", _sized(op, 1003)) for op in collective.OPERATIONS}
    varied = {
        f"{op} {dtype} async={async_op}": _check_once(
            rank, _sized(op, 4099) | {"dtype": dtype, "async_op": async_op, "timing": "streamed"}
        )
        for op in collective.OPERATIONS
        for dtype, async_op in (("bfloat16", False), ("int32", True), ("float16", True))
    }
    # Longer than the test data's period, so that its repetition is checked too.
    varied |= {f"{op} long": _check_once(rank, _sized(op, 4_000_000)) for op in ("all_reduce", "all_to_all")}

    work = SUITE.prepare(SUITE.defaults | _sized("all_reduce", 400), rank)
    assert work.reset is not None
    before: Any = work.reset()
    before = before.clone()
    for run in (*work.variants.values(), *work.variants.values()):
        run()
    restored = bool(torch.equal(before, work.reset()))  # type: ignore[arg-type]

    table = dict(collective.OPERATIONS)
    broken = {}
    for name, (op, bind) in _broken_bindings().items():
        collective.OPERATIONS = table | {op: replace(table[op], bind=bind)}
        broken[name] = _check_once(rank, _sized(op, 1003))
    collective.OPERATIONS = table
    return {"sound": sound, "varied": varied, "broken": broken, "restored": restored}


@pytest.fixture(scope="module", params=[2, 3, 4])
def world(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return on_ranks(request.param, _exercise)


def test_every_operation_is_exact_before_and_after_the_timed_calls(world: list[dict[str, Any]]) -> None:
    for rank in world:
        for op, case in rank["sound"].items():
            assert case["checks"] == [Check(0.0, 0.0)] * 2, op
        for name, check in rank["varied"].items():
            assert check == Check(0.0, 0.0), name


def test_bytes_and_bus_factors(world: list[dict[str, Any]]) -> None:
    # 1003 bytes are 250 elements of float32; 3 ranks share 249 and 4 ranks 248 evenly.
    num_bytes = {2: 1000, 3: 996, 4: 992}[len(world)]
    reduce_and_gather = {2: 1.0, 3: 4 / 3, 4: 1.5}[len(world)]
    one_of_them = {2: 0.5, 3: 2 / 3, 4: 0.75}[len(world)]
    by_hand = dict.fromkeys(MOVING, one_of_them)
    by_hand |= {"all_reduce": reduce_and_gather, "broadcast": 1.0, "reduce": 1.0}
    for rank in world:
        factors = {op: case["bus_factor"] for op, case in rank["sound"].items()}
        assert factors.pop("barrier") is None
        assert factors == pytest.approx(by_hand)
        assert {rank["sound"][op]["bytes"] for op in MOVING} == {num_bytes}
        assert rank["sound"]["barrier"]["bytes"] is None


def test_reset_restores_the_inputs(world: list[dict[str, Any]]) -> None:
    assert all(rank["restored"] for rank in world)


def test_a_wrong_result_is_caught_on_some_rank(world: list[dict[str, Any]]) -> None:
    for name in world[0]["broken"]:
        assert not all(rank["broken"][name].passed for rank in world), name


def _stub(world_size: int = 2, backend: str = "gloo") -> Any:
    return SimpleNamespace(world_size=world_size, backend=backend)


@pytest.mark.parametrize(
    ("rank", "params", "reason"),
    [
        (_stub(1), _sized("all_reduce", 1024), "needs at least 2 ranks"),
        (_stub(1), _sized("barrier", 0), "needs at least 2 ranks"),
        (_stub(), {"op": "all_reduce", "num_bytes": 1024, "graph": True}, "gloo has no CUDA graphs"),
        (_stub(backend="nccl"), {"op": "barrier", "graph": True}, "waits on the host"),
        (_stub(), {"op": "barrier", "num_bytes": 1024}, "moves no data"),
        (_stub(), {"op": "all_reduce"}, "needs num_bytes"),
    ],
)
def test_what_has_no_meaning_is_skipped_with_its_reason(rank: Any, params: dict[str, Any], reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        SUITE.prepare(SUITE.defaults | params, rank)


@pytest.mark.parametrize("num_bytes", [0, -1, 1.5, True, "1MiB"])
def test_a_bad_size_is_an_error(num_bytes: Any) -> None:
    params = SUITE.defaults | {"op": "all_reduce", "num_bytes": num_bytes}
    with pytest.raises(BenchError, match="num_bytes="):
        SUITE.prepare(params, _stub())
    with pytest.raises(BenchError, match="num_bytes="):
        SUITE.memory_bytes(params, cpu_machine(2))


@pytest.mark.parametrize("wrong", [{"op": "all_to_none"}, {"dtype": "float64"}])
def test_an_unknown_choice_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="it is one of"):
        SUITE.prepare(SUITE.defaults | _sized("all_reduce", 1024) | wrong, _stub())


@pytest.mark.parametrize(
    ("op", "num_payloads"),
    # Input + output + the copy that restores + one payload of the backend's, at the root of 4 ranks.
    [
        ("all_reduce", 1 + 0 + 1 + 1),
        ("all_gather", 0.25 + 1 + 0 + 1),
        ("reduce_scatter", 1 + 0.25 + 0 + 1),
        ("all_to_all", 1 + 1 + 0 + 1),
        ("broadcast", 1 + 0 + 0 + 1),
        ("reduce", 1 + 0 + 1 + 1),
        ("gather", 0.25 + 1 + 0 + 1),
        ("scatter", 1 + 0.25 + 0 + 1),
    ],
)
def test_memory(op: str, num_payloads: float) -> None:
    params = SUITE.defaults | _sized(op, 2**30)
    assert SUITE.memory_bytes(params, cpu_machine(4)) == num_payloads * 2**30 + exact_check.CHECK_BYTES


@pytest.mark.parametrize("num_ranks", [2, 3, 4, 100, 256, 300, 1000])
def test_every_sum_of_test_data_is_exact_in_bfloat16(num_ranks: int) -> None:
    each = [exact_check.pattern((rank,), num_ranks, 500) for rank in range(num_ranks)]
    stacked = torch.stack(each)
    assert int(stacked.abs().sum(0).max()) <= 256
    assert torch.equal(exact_check.pattern(range(num_ranks), num_ranks, 500), stacked.sum(0))
    assert len({tuple(data.tolist()) for data in each}) == num_ranks
    assert all(len(set(data.tolist())) > 2 for data in each)


def test_ids_are_permanent() -> None:
    by_hand = {
        "collective/all_reduce[num_bytes=1048576]": _sized("all_reduce", 2**20),
        "collective/all_reduce[num_bytes=1048576,timing=streamed]": _sized("all_reduce", 2**20)
        | {"timing": "streamed"},
        "collective/all_gather[dtype=bfloat16,num_bytes=1024]": _sized("all_gather", 1024) | {"dtype": "bfloat16"},
        "collective/all_reduce[async_op=true,graph=true,num_bytes=1024]": _sized("all_reduce", 1024)
        | {"async_op": True, "graph": True},
        "collective/barrier": {"op": "barrier"},
    }
    assert {SUITE.case(params).id for params in by_hand.values()} == set(by_hand)


def _ids(preset: str, device_type: str = "cpu") -> list[str]:
    machine = Machine(2, device_type, preset, 8 << 30, num_cores=2, ranks_per_host=2)
    return [SUITE.case(params).id for params in SUITE.cases(machine)]


def test_smoke_cases() -> None:
    ids = _ids("smoke")
    assert ids[0] == "collective/all_reduce[num_bytes=1048576]"
    assert len(ids) == len(set(ids)) <= 18
    assert {f"collective/{op}[num_bytes=1048576]" for op in MOVING} | {"collective/barrier"} < set(ids)
    factors = ["num_bytes=1024", "num_bytes=65536", "dtype=bfloat16,num_bytes=1048576"]
    factors += ["dtype=int32,num_bytes=1048576", "num_bytes=1048576,timing=streamed"]
    factors += ["async_op=true,num_bytes=1048576"]
    assert {f"collective/all_reduce[{factor}]" for factor in factors} < set(ids)


def test_standard_cases() -> None:
    ids = _ids("standard")
    assert len(ids) == len(set(ids)) <= 45
    ladder = [2**10, 2**12, 2**14, 2**16, 2**18, 2**20, 2**22, 2**24, 2**26]
    wanted = {f"collective/all_reduce[num_bytes={size}]" for size in ladder}
    wanted |= {f"collective/{op}[num_bytes={size}]" for op in MOVING for size in (2**10, 2**20, 2**26)}
    assert wanted < set(ids)


@pytest.mark.parametrize(("device_type", "largest"), [("cpu", 2**30), ("cuda", 2**34)])
def test_full_has_every_power_of_two(device_type: str, largest: int) -> None:
    sizes = [2**power for power in range(10, largest.bit_length())]
    wanted = {f"collective/{op}[num_bytes={size}]" for op in MOVING for size in sizes}
    ids = _ids("full", device_type)
    assert wanted < set(ids)
    assert len(ids) == len(set(ids))
    assert any("graph=true" in text for text in ids) == (device_type == "cuda")


def test_rooted_streamed_cases_carry_a_footnote() -> None:
    rooted = [
        op for op, row in collective.OPERATIONS.items() if collective._notes({"op": op, "timing": "streamed"}, row)
    ]
    assert rooted == ["broadcast", "reduce", "gather", "scatter"]
    assert collective._notes({"op": "broadcast", "timing": "aligned"}, collective.OPERATIONS["broadcast"]) == ()
