"""A predicted step: shapes, parts that add up, memory by published formulas, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import pytest

from bench.errors import BenchError
from bench.parallelism.layout import Job
from bench.parallelism.shapes import find_model, shape_of_sizes
from bench.predict.model import pipeline, stragglers
from bench.predict.model.fleet import FleetPart
from bench.predict.model.fleet import predict as fleet_predict
from bench.predict.model.prediction import TrainingStrategy
from bench.predict.model.step import Predictor
from bench.predict.rates import device as hardware
from bench.predict.rates.constants import frozen
from bench.predict.rates.device import Device
from bench.predict.rates.network import Network
from bench.predict.search import Fixed, search

H100 = hardware.find("H100")
LLAMA = find_model("llama3-70b")


def predictor(job: Job | None = None, device: Device = H100, stack: str = "megatron-core") -> Predictor:
    return Predictor(job or Job(LLAMA, 512), device, frozen(), stack)


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("llama3-8b", 8.03, 7.5),
        ("llama3-70b", 70.6, 69.5),
        ("llama3-405b", 405.9, 403.8),
        ("qwen3-30b-a3b", 30.5, 3.03),
    ],
)
def test_shapes_have_the_parameters_that_their_authors_say(name: str, billions: float, active: float) -> None:
    shape = find_model(name)
    assert shape.num_parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert shape.active_parameters / 1e9 == pytest.approx(active, rel=0.01)


def test_model_flops_are_palms() -> None:
    # 6 N + 12 L H Q T (PaLM, appendix B), N without the input embedding.
    shape = replace(shape_of_sizes(num_layers=4, hidden=64, num_heads=4, vocabulary=1000), sequence=128)
    n = 4 * (4 * 64 * 64 + 8 * 64 * 64) + 1000 * 64
    assert shape.step_flops_per_token() == 6 * n + 12 * 4 * 64 * 128
    assert shape.step_flops_per_token("causal_half") == 6 * n + 6 * 4 * 64 * 128


def test_a_device_is_found_by_any_start_that_is_clear() -> None:
    assert hardware.find("H100").name == "H100-SXM-80GB"
    assert hardware.find("GB200").domain_size == 72
    with pytest.raises(BenchError, match="not in the catalogue"):
        hardware.find("X1")
    with pytest.raises(BenchError, match="no peak or no memory bandwidth"):
        hardware.find("RTX PRO 6000")
    assert hardware.find("GB300").memory_bytes == 279e9
    capped = hardware.find("H100-SXM-96GB")
    assert (capped.power_watts, capped.nominal_watts, capped.memory_bytes_per_s) == (500, 700, 2.4e12)
    assert capped.reached_bf16_flops_per_s == hardware.find("H100").reached_bf16_flops_per_s
    with pytest.raises(BenchError, match="no peak rate of precision 'nvfp4'"):
        H100.flops_per_s("nvfp4")


def test_the_parts_of_a_step_add_up_and_its_interval_holds_it() -> None:
    found = predictor().predict(TrainingStrategy(tp=8, pp=4, dp=8, interleave=5, schedule="interleaved", zero=1))
    assert sum(found.parts.values()) == pytest.approx(found.step_seconds)
    assert found.interval[0] < found.step_seconds < found.interval[1]
    assert 0.2 < found.mfu < 0.7
    assert found.pipeline_method == "replay"
    assert found.fits


def test_more_of_a_cause_gives_more_of_its_part() -> None:
    one = predictor().predict(TrainingStrategy(tp=8, pp=4, dp=8, zero=1))
    deeper = predictor().predict(TrainingStrategy(tp=8, pp=8, dp=4, zero=1))
    wider = predictor().predict(TrainingStrategy(tp=8, pp=2, dp=16, zero=1))
    assert deeper.parts["idle_seconds"] > one.parts["idle_seconds"] > wider.parts["idle_seconds"]
    again = predictor().predict(TrainingStrategy(tp=8, pp=4, dp=8, zero=1, recompute="full"))
    assert again.step_seconds > 1.2 * one.step_seconds
    assert again.memory.activations < 0.2 * one.memory.activations
    alone = predictor().predict(TrainingStrategy(tp=1, pp=16, dp=16, zero=1))
    assert alone.parts["tensor_seconds"] == 0.0
    assert one.parts["tensor_seconds"] > 0.0


def test_activations_are_those_of_the_published_formula() -> None:
    # arXiv 2205.05198: 34 s b h a layer, 5 a s^2 b more where scores are kept; 10 s b h + 24 s b h / t without sequence
    # parallelism. 175B, one microbatch, one layer a stage: no logits on the first.
    shape = find_model("gpt3-175b")
    s, h, a = 2048, 12288, 96

    def activations(stack: str, recompute: str) -> float:
        made = predictor(Job(replace(shape, sequence=s), 1, "fp16"), hardware.find("A100-SXM-80GB"), stack)
        strategy = TrainingStrategy(tp=8, pp=1, recompute=recompute)
        held = made.holdings.rank_memory(replace(strategy, pp=96), [1] * 96, 0, 1.0)
        return held.activations

    assert activations("megatron-sp", "selective") == pytest.approx(34 * s * h / 8)
    assert activations("megatron-sp", "none") == pytest.approx((34 * s * h + 5 * a * s * s) / 8)
    assert activations("megatron", "none") == pytest.approx(10 * s * h + (24 * s * h + 5 * a * s * s) / 8)


def test_zero_divides_what_it_says() -> None:
    parts = [predictor().predict(TrainingStrategy(tp=8, dp=64, zero=zero)).memory for zero in (0, 1, 2, 3)]
    assert parts[0].optimizer == pytest.approx(64 * parts[1].optimizer)
    assert parts[1].gradients == pytest.approx(64 * parts[2].gradients)
    assert parts[3].parameters < parts[2].parameters / 10


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "interleaved"])
def test_the_formula_is_the_replay_with_equal_stages(name: str) -> None:
    v = 2 if name == "interleaved" else 1
    stages = pipeline.Stages((1.0,) * 4, (2.0,) * 4, 8, v)
    assert pipeline.formula_seconds(name, stages) == pytest.approx(pipeline.replayed_seconds(name, stages))
    # The textbook's bubble: (p - 1) / (v m).
    assert pipeline.formula_seconds(name, stages) / (8 * 3.0) - 1.0 == pytest.approx(3 / (8 * v))


def test_a_slow_stage_sets_the_pace_in_formula_and_replay() -> None:
    stages = pipeline.Stages((1.0, 1.0, 1.5, 1.0), (2.0, 2.0, 3.0, 2.0), 16)
    replayed = pipeline.replayed_seconds("1f1b", stages)
    assert replayed is not None
    assert pipeline.formula_seconds("1f1b", stages) == pytest.approx(replayed, rel=0.02)


def test_ranks_that_share_a_device_use_what_others_leave_idle() -> None:
    """Of equal stages nothing is left idle where the bubble is less than what the others have to do."""
    strategy = TrainingStrategy(pp=4, microbatch=1)
    job = Job(find_model("llama3-8b"), 8)
    own = Predictor(job, H100, frozen(), "megatron-core", jitter_share=0.0)
    shared = Predictor(job, H100, frozen(), "megatron-core", jitter_share=0.0, core_share=0.25)
    whole, part = own.predict(strategy), shared.predict(strategy)
    assert whole.parts["idle_seconds"] > 0
    assert part.parts["idle_seconds"] == 0
    assert part.step_seconds < whole.step_seconds


def test_zero_bubble_schedules_are_ordered_as_their_paper_says() -> None:
    stages = pipeline.Stages((1.0,) * 8, (2.0,) * 8, 24)
    plain, half, none = (pipeline.formula_seconds(name, stages) for name in ("1f1b", "zb1p", "zb2p"))
    assert plain > half >= none == 24 * 3.0


def test_collectives_follow_their_formulas() -> None:
    network = Network(H100, dataclasses.replace(frozen().common, inside_share=1.0, across_share=1.0))
    inside, across = network.group(8), network.group(16, 8)
    assert (inside.domains, across.domains) == (1, 16)
    big = 1e12
    assert network.all_reduce_seconds(big, inside) == pytest.approx(2 * 7 / 8 * big / 450e9, rel=1e-3)
    assert network.gather_seconds(big, across) == pytest.approx(15 / 16 * big / 50e9, rel=1e-3)
    # Eight ranks of a group in each domain have eight NICs.
    assert network.all_reduce_seconds(big, network.group(64)) == pytest.approx(2 * 63 / 64 * big / 400e9, rel=1e-3)
    assert network.all_reduce_seconds(big, network.group(1)) == 0.0
    bare = dataclasses.replace(H100, across=None)
    with pytest.raises(BenchError, match="give --nic-gbit"):
        Network(bare, frozen().common).all_reduce_seconds(1.0, across)


def _expected_maximum(samples: Sequence[float], num_ranks: int) -> float:
    """Expected maximum of `num_ranks` draws from ascending samples: exact, since P(max <= x) = F(x)^n."""
    shares = [(place / len(samples)) ** num_ranks for place in range(len(samples) + 1)]
    return sum(value * (shares[place + 1] - shares[place]) for place, value in enumerate(samples))


def test_the_slowest_of_many_is_expected_later() -> None:
    shares = [stragglers.expected_maximum_share(n, 0.01) for n in (1, 2, 100, 100_000)]
    assert shares[0] == 0.0
    assert shares[1] == pytest.approx(0.00564, rel=0.05)  # 1 / sqrt(pi) of a standard deviation
    assert shares[2] == pytest.approx(0.02508, rel=0.01)
    assert shares[3] < 0.01 * math.sqrt(2 * math.log(100_000))
    assert _expected_maximum([1.0, 2.0], 2) == pytest.approx(1.75)
    normal = [NormalDist().inv_cdf((place + 0.5) / 20_000) for place in range(20_000)]
    assert shares[2] == pytest.approx(0.01 * _expected_maximum(normal, 100), rel=0.01)


def test_a_search_finds_the_fastest_that_fits() -> None:
    made = predictor()
    found = search(made, 256, keep=8)
    times = [each.step_seconds for each in found.best]
    assert found.tried > found.fitting > 100
    assert all(each.fits for each in found.best)
    assert (
        times[0]
        <= made.predict(TrainingStrategy(tp=8, pp=4, dp=8, interleave=5, schedule="interleaved", zero=1)).step_seconds
    )
    fixed = search(made, 256, Fixed(tp=4, pp=8, microbatch=1), keep=3).best[0].strategy
    assert (fixed.tp, fixed.pp, fixed.microbatch, fixed.dp * fixed.cp) == (4, 8, 1, 8)
    leftover = search(made, 100, Fixed(tp=8, pp=3), keep=1).best[0]
    assert (leftover.devices, leftover.strategy.world_size) == (100, 96)


def test_a_job_that_fits_nowhere_is_refused_with_the_numbers() -> None:
    with pytest.raises(BenchError, match=r"no split fits into 80 GB; the leanest of .* needs .* GB"):
        search(predictor(Job(find_model("llama3-405b"), 64)), 8)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (TrainingStrategy(tp=7), "does not divide 64 heads"),
        (TrainingStrategy(pp=81), "more stages than the 80 layers"),
        (TrainingStrategy(ep=2), "has to divide 1 experts"),
        (TrainingStrategy(microbatch=0), "at least 1"),
        (TrainingStrategy(recompute="some"), "there are: none, selective"),
        (TrainingStrategy(schedule="dual"), "no schedule named 'dual'"),
        (TrainingStrategy(zero=4), "stages are 0 to 3"),
        (TrainingStrategy(cp=3), "does not divide a sequence"),
    ],
)
def test_impossible_splits_are_refused(strategy: TrainingStrategy, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        predictor().predict(strategy)


def test_a_fleet_of_one_type_is_that_type_and_balance_helps_a_mixed_one() -> None:
    job, strategy = Job(LLAMA, 2048), TrainingStrategy(tp=8, pp=4, microbatch=1, zero=1)
    slow = dataclasses.replace(H100, name="slow", reached_bf16_flops_per_s=0.5 * H100.reached_bf16_flops_per_s)

    def make(device: Device, job: Job) -> Predictor:
        return predictor(job, device)

    alone = predictor(job).predict(replace(strategy, dp=32), replay=False)
    same = fleet_predict(make, job, [FleetPart(H100, 512), FleetPart(H100, 512)], strategy, "even")
    assert same.step_seconds == pytest.approx(alone.step_seconds)
    mixed = [FleetPart(H100, 512), FleetPart(slow, 512)]
    even, balanced = (fleet_predict(make, job, mixed, strategy, mode) for mode in ("even", "balanced"))
    assert even.slowest.member.device.name == "slow"
    assert balanced.step_seconds < 0.85 * even.step_seconds
    assert sum(part.replicas * part.microbatches for part in balanced.parts) >= 2048
    with pytest.raises(BenchError, match="less than one replica"):
        fleet_predict(make, job, [FleetPart(H100, 16), FleetPart(slow, 512)], strategy, "even")
