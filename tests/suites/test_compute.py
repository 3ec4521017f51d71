"""The compute suite: on 1, 2, 3 and 4 ranks, with wrong results, and its metrics by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.errors import BenchError, Skip
from bench.measure.engine.rank import RankContext
from bench.measure.launchers.place import Place
from bench.measure.planning.suite_loader import load
from bench.suite import Check, Machine, Observed, Work
from bench.workloads.model import float8, kernels, product_check
from suites import compute
from tests.support.ranks import cpu_machine, on_ranks, run_case

SUITE = load("compute")
LAYER = {"size": 24, "tokens": 40}
SQUARE = {"op": "matmul", "shape": "square", "size": 65}
SMALL_CASES: list[dict[str, Any]] = [
    SQUARE,
    SQUARE | {"dtype": "bfloat16", "timing": "streamed"},
    SQUARE | {"dtype": "float16"},
    {"op": "matmul", "shape": "square", "size": 1},
    *({"op": "matmul", "shape": shape} | LAYER for shape in ("qkv", "attention_out", "mlp_up", "mlp_down")),
    {"op": "copy", "num_bytes": 4 * (2**18 + 3)},
    {"op": "copy", "num_bytes": 1001, "dtype": "bfloat16"},
    {"op": "triad", "num_bytes": 4 * (2**18 + 3)},
    {"op": "triad", "num_bytes": 1001, "dtype": "bfloat16"},
]


def _one_rank(ranks_per_host: int = 1) -> RankContext:
    machine = replace(cpu_machine(max(1, ranks_per_host)), ranks_per_host=ranks_per_host)
    nobody: Any = None
    place = Place(0, machine.world_size, 0, ranks_per_host)
    return RankContext(place, machine, "gloo", torch.device("cpu"), nobody, nobody, nobody)


def _prepare(params: dict[str, Any], rank: RankContext | None = None) -> Work:
    return SUITE.prepare(SUITE.defaults | params, rank or _one_rank())


def _exercise(rank: Any) -> list[dict[str, Any]]:
    return [run_case(rank, "compute", params) for params in SMALL_CASES]


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_every_operation_is_right_on_every_rank(world_size: int) -> None:
    for results in on_ranks(world_size, _exercise):
        for params, result in zip(SMALL_CASES, results, strict=True):
            assert all(check.passed for check in result["checks"]), (params, result["checks"])
            assert result["variants"] == ["full", *(f"alone_{i}" for i in range(world_size))]
        # 2mnk of each rank: 65^3, and m = 40 tokens by 3, 1, 4 and 1 x 24 columns over 24, 24, 24 and 96.
        flops = [result["flops"] for result in results]
        assert flops[0] == 2 * 65**3 * world_size
        assert flops[4:8] == [2 * 40 * 24 * 24 * factor * world_size for factor in (3, 1, 4, 4)]
        assert flops[8:] == [None] * 4


@pytest.mark.parametrize("params", SMALL_CASES, ids=str)
def test_one_rank_has_only_the_case_itself(params: dict[str, Any]) -> None:
    work = _prepare(params)
    assert list(work.variants) == ["full"]
    check = Check(*work.check())
    assert check.passed
    # A wrong entry is off by about 1, so a tolerance near that would check nothing.
    assert check.tolerance < 0.1


def test_ranks_that_are_not_meant_return_at_once() -> None:
    work = _prepare(SQUARE, _one_rank(ranks_per_host=3))
    full, *alone = work.variants.values()
    assert alone[0] is full
    assert [run() for run in alone[1:]] == [None, None]


def test_many_ranks_of_a_host_are_not_timed_alone() -> None:
    work = _prepare(SQUARE, _one_rank(ranks_per_host=17))
    assert list(work.variants) == ["full"]
    assert any("17 on a host" in note for note in work.notes)
    assert len(_prepare(SQUARE, _one_rank(ranks_per_host=16)).variants) == 17


@pytest.mark.parametrize(("op", "factor"), [("copy", 2), ("triad", 3)])
def test_memory_traffic_counts_reads_and_writes(op: str, factor: int) -> None:
    work = _prepare({"op": op, "num_bytes": 1003})
    assert work.memory_traffic_bytes == factor * 1000
    assert work.flops is None
    assert work.flops_dtype is None


@pytest.mark.parametrize(("cache_bytes", "expected"), [(250, "4 x"), (500, "below STREAM's 4 x")])
def test_arrays_are_held_against_the_cache(cache_bytes: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_last_level_cache_bytes", lambda rank: cache_bytes)
    (note,) = _prepare({"op": "triad", "num_bytes": 1000}).notes
    assert expected in note
    assert ("below" in note) == ("below" in expected)
    monkeypatch.setattr(kernels, "_last_level_cache_bytes", lambda rank: None)
    assert _prepare({"op": "copy", "num_bytes": 1000}).notes == ()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c[-1, -1].add_(8.0 * 128**0.5),
        lambda c: c[16:32, 64:96].zero_(),
        lambda c: c[:, 37].zero_(),
        lambda c: c[3, 5].fill_(torch.nan),
        lambda c: c.copy_(c.T.clone()),
        lambda c: c.mul_(1.25),
    ],
    ids=["one entry", "a tile", "a column", "a NaN", "transposed", "scaled"],
)
def test_a_wrong_product_is_caught(spoil: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch.matmul

    def wrong(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        multiply(a, b, out=out)
        spoil(out)
        return out

    monkeypatch.setattr(torch, "matmul", wrong)
    params = {"op": "matmul", "shape": "square", "size": 128, "dtype": dtype}
    assert not Check(*_prepare(params).check()).passed


@pytest.mark.parametrize("index", [0, 2**18 - 1, 2**18 + 2])
def test_a_wrong_triad_is_caught(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    add = torch.add

    def wrong(b: torch.Tensor, c: torch.Tensor, *, alpha: float, out: torch.Tensor) -> torch.Tensor:
        add(b, c, alpha=alpha, out=out)
        out[index] *= 1.001
        return out

    monkeypatch.setattr(torch, "add", wrong)
    assert not Check(*_prepare({"op": "triad", "num_bytes": 4 * (2**18 + 3)}).check()).passed


def test_a_copy_that_leaves_something_out_is_caught() -> None:
    error = kernels._blockwise_error
    whole = torch.arange(2**18 + 3, dtype=torch.float32)
    part = whole.clone()
    part[-1] = torch.nan
    assert error((whole, whole), lambda a, b: (a - b).abs(), inputs=(whole,)) == 0.0
    assert not Check(error((part, whole), lambda a, b: (a - b).abs(), inputs=(whole,)), 0.0).passed


def test_inputs_that_are_all_alike_check_nothing() -> None:
    same = torch.ones(2**18 + 3)
    assert not Check(kernels._blockwise_error((same, same), lambda a, b: (a - b).abs(), inputs=(same,)), 0.0).passed


def test_float8_that_torch_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("no kernel for it\nand a stack")

    monkeypatch.setattr(torch, "_scaled_mm", refuse)
    with pytest.raises(Skip, match=r"cannot multiply float8_e4m3fn on this device: no kernel for it$"):
        _prepare({"op": "matmul", "shape": "square", "size": 64, "dtype": "float8_e4m3fn"})


def test_float8() -> None:
    params = {"op": "matmul", "shape": "square", "size": 64, "dtype": "float8_e4m3fn"}
    work = _prepare(params)
    assert (work.flops, work.flops_dtype) == (2 * 64**3, "float8_e4m3fn")
    assert Check(*work.check()).passed
    product = work.variants["full"].keywords["out"]  # type: ignore[attr-defined]
    multiply = torch._scaled_mm

    def wrong(*args: Any, out: torch.Tensor, **options: Any) -> torch.Tensor:
        multiply(*args, out=out, **options)
        out[7, 9] += 30.0
        return out

    assert product.dtype == torch.bfloat16
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "_scaled_mm", wrong)
        assert not Check(*_prepare(params).check()).passed


def test_float8_on_gpus_that_lack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = replace(_one_rank(), device=torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(Skip, match=r"compute capability 8\.0, and FP8 begins with 8\.9"):
        _prepare({"op": "matmul", "shape": "square", "size": 64, "dtype": "float8_e4m3fn"}, rank)


def test_float8_s_tolerance_by_hand() -> None:
    # 8 epsilons of the output's bfloat16, and 4 sqrt(k) of 2^-13; an entry that is wrong is off by about 1.
    assert float8.tolerance(8192) == pytest.approx(8 * 2**-7 + 4 * 8192**0.5 * 2**-13)
    assert float8.tolerance(32768) < 0.2


def test_tolerance_by_hand() -> None:
    cpu = torch.device("cpu")
    # 8 epsilons of the type, and 4 sqrt(k) of float32's 2^-23, in which sums are kept.
    assert product_check.product_tolerance(1024, torch.bfloat16, cpu) == 8 * 2**-7 + 4 * 32 * 2**-23
    assert product_check.product_tolerance(1024, torch.float16, cpu) == 8 * 2**-10 + 4 * 32 * 2**-23
    assert product_check.product_tolerance(64, torch.float32, cpu) == (8 + 4 * 8) * 2**-23


def _observed(**rank_seconds: tuple[float, ...]) -> Observed:
    return Observed(
        world_size=len(rank_seconds["full"]),
        num_cores=2,
        device_type="cpu",
        seconds={name: max(times) for name, times in rank_seconds.items()},
        rank_seconds=rank_seconds,
        spans=(),
        traced_call_ns=(),
    )


def _derived(params: dict[str, Any], ranks_per_host: int, observed: Observed) -> dict[str, float | None]:
    derive = _prepare(params, _one_rank(ranks_per_host)).derive
    assert derive is not None
    found = dict(derive(observed))
    assert set(found) <= set(SUITE.metrics)
    return found


def test_metrics_of_two_ranks_by_hand() -> None:
    # Rank 0 needs 1 s alone and 1.5 s beside the other; rank 1, the slower one, 2 s and 2.2 s.
    observed = _observed(full=(1.5, 2.2), alone_0=(1.0, 1e-7), alone_1=(1e-7, 2.0))
    found = _derived({"op": "matmul", "shape": "square", "size": 100}, 2, observed)
    # 2 MFLOP in 1 s and in 2 s: the median of 2 and 1 MFLOP/s.
    assert found == pytest.approx({"contention": 1.5, "rank_spread": 2.0, "alone_tflop_per_s": 1.5e-6})
    found = _derived({"op": "triad", "num_bytes": 1000}, 2, observed)
    assert found == pytest.approx({"contention": 1.5, "rank_spread": 2.0, "alone_membw_gb_per_s": 2.25e-6})


def test_metrics_where_each_rank_has_its_own_host() -> None:
    found = _derived({"op": "copy", "num_bytes": 1000}, 1, _observed(full=(1.0, 4.0, 2.0)))
    assert found == {"contention": None, "rank_spread": 4.0, "alone_membw_gb_per_s": 1e-6}


def test_metrics_of_one_rank() -> None:
    found = _derived({"op": "copy", "num_bytes": 1000}, 1, _observed(full=(2.0,)))
    assert found == {"contention": None, "rank_spread": None, "alone_membw_gb_per_s": 1e-6}


def test_ranks_not_timed_alone_have_no_such_metrics() -> None:
    assert _derived({"op": "copy", "num_bytes": 1000}, 17, _observed(full=(1.0,) * 17)) == {}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"op": "copy", "num_bytes": 64, "dtype": "float8_e4m3fn"}, "float8_e4m3fn is for matmul alone"),
        (SQUARE | {"dtype": "float8_e4m3fn"}, "multiples of 16: m=65, n=65, k=65"),
        ({"op": "copy"}, "copy needs num_bytes"),
        ({"op": "matmul", "shape": "qkv", "size": 8}, "matmul needs tokens"),
        (SQUARE | {"tokens": 8}, "tokens has no meaning"),
        ({"op": "triad", "num_bytes": 8, "size": 8}, "size has no meaning"),
    ],
)
def test_parameters_that_do_not_fit_together_are_skipped(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        _prepare(params)


@pytest.mark.parametrize(
    "params",
    [
        SQUARE | {"size": 0},
        SQUARE | {"size": 1.5},
        {"op": "copy", "num_bytes": -1},
        {"op": "matmul", "shape": "qkv", "size": 8, "tokens": True},
        {"op": "scale", "num_bytes": 8},
        SQUARE | {"shape": "round"},
        SQUARE | {"dtype": "int32"},
    ],
    ids=str,
)
def test_a_bad_value_is_an_error(params: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=r"^compute: "):
        _prepare(params)
    with pytest.raises(BenchError, match=r"^compute: "):
        SUITE.memory_bytes(SUITE.defaults | params, cpu_machine(2))


def test_memory_by_hand() -> None:
    def tensors(params: dict[str, Any]) -> int:
        needed = SUITE.memory_bytes(SUITE.defaults | params, cpu_machine(2))
        assert needed is not None
        return needed - compute.CHECK_BYTES

    assert tensors({"op": "copy", "num_bytes": 2**20}) == 2 * 2**20
    assert tensors({"op": "triad", "num_bytes": 2**20}) == 3 * 2**20
    # Four matrices, the second factor counted twice, and 4 float64 samples of 64 rows or columns of length k.
    square = {"op": "matmul", "shape": "square", "size": 1024, "dtype": "bfloat16"}
    assert tensors(square) == 4 * 1024 * 1024 * 2 + 4 * 64 * 1024 * 8


def test_ids_are_permanent() -> None:
    by_hand: dict[str, dict[str, Any]] = {
        "compute/matmul[shape=square,size=1024]": {"op": "matmul", "shape": "square", "size": 1024},
        "compute/matmul[dtype=bfloat16,shape=qkv,size=512,tokens=256]": {
            "op": "matmul",
            "shape": "qkv",
            "size": 512,
            "tokens": 256,
            "dtype": "bfloat16",
        },
        "compute/copy[num_bytes=4194304]": {"op": "copy", "num_bytes": 4194304},
        "compute/triad[num_bytes=4194304,timing=streamed]": {
            "op": "triad",
            "num_bytes": 4194304,
            "timing": "streamed",
        },
    }
    assert {SUITE.case(params).id for params in by_hand.values()} == set(by_hand)


@pytest.mark.parametrize("preset", ["smoke", "standard", "full"])
@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_cases_cover_every_operation_shape_and_type(device_type: str, preset: str) -> None:
    rows = SUITE.cases(Machine(2, device_type, preset, 8 << 30, num_cores=2, ranks_per_host=2))
    ids = [SUITE.case(row).id for row in rows]
    assert len(ids) == len(set(ids)) <= (13 if preset == "smoke" else 100)
    assert {row["op"] for row in rows} == set(compute.OPERATIONS)
    assert {row["shape"] for row in rows if "shape" in row} == set(compute.SHAPES)
    types = {"cpu": {"float32", "bfloat16"}, "cuda": {"float32", "bfloat16", "float16", "float8_e4m3fn"}}
    assert {row["dtype"] for row in rows} == types[device_type]
    assert all(compute._misfit(row, compute.OPERATIONS[str(row["op"])]) is None for row in rows)
