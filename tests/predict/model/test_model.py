"""What software and hardware of one kind do otherwise, in a predicted step: each fact moves its part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.parallelism.layout import Job
from bench.parallelism.shapes import find_model
from bench.predict.model import pipeline
from bench.predict.model.overheads import RankWork
from bench.predict.model.prediction import Prediction, TrainingStrategy
from bench.predict.model.step import OWN_PARTS, Predictor
from bench.predict.rates import device as hardware
from bench.predict.rates.by_size import BySize
from bench.predict.rates.constants import attention_flops_per_s, frozen
from bench.predict.rates.device import Device
from bench.predict.rates.matmul import ROWWISE_SHARE, Multiplier

H100 = hardware.find("H100")
DENSE, MIXTURE = find_model("llama3-70b"), find_model("qwen3-235b-a22b")
JOB = Job(DENSE, 512)


def predicted(strategy: TrainingStrategy, job: Job = JOB, device: Device = H100, **stack: object) -> Prediction:
    """By Megatron-Core with some of its facts changed."""
    constants = frozen()
    changed = replace(constants.stacks["megatron-core"], **stack)  # type: ignore[arg-type]
    return Predictor(job, device, replace(constants, stacks={"mine": changed}), "mine").predict(strategy)


def test_values_by_size_are_met_where_measured_between_in_logarithms_and_flat_outside() -> None:
    found = BySize((1.0, 100.0), (2.0, 8.0))
    assert [found.at(size) for size in (0.1, 1.0, 10.0, 100.0, 1e6)] == pytest.approx([2.0, 2.0, 4.0, 8.0, 8.0])
    assert found.times(3.0).at(10.0) == pytest.approx(12.0)


def test_work_slows_down_by_the_size_of_its_microbatch_and_transfers_do_not() -> None:
    """8192 and 16384 tokens over 8 tensor ranks."""
    strategy = TrainingStrategy(tp=8, dp=8, microbatch=1, zero=1)
    plain, slowed = (
        Predictor(JOB, H100, frozen(), "megatron-core", jitter_share=0.0, slowdown=slowdown)
        for slowdown in (None, BySize((1024.0, 2048.0), (2.0, 1.0)))
    )
    small, large = (slowed.predict(replace(strategy, microbatch=size)).parts for size in (1, 2))
    before = [plain.predict(replace(strategy, microbatch=size)).parts for size in (1, 2)]
    assert small["compute_seconds"] == pytest.approx(2.0 * before[0]["compute_seconds"])
    assert large["compute_seconds"] == pytest.approx(before[1]["compute_seconds"])
    assert small["tensor_seconds"] == before[0]["tensor_seconds"]


def test_stragglers_are_of_what_ranks_do_themselves() -> None:
    strategy = TrainingStrategy(tp=8, dp=64, zero=3)
    calm, nervous = (
        Predictor(JOB, H100, frozen(), "megatron-core", jitter_share=share).predict(strategy) for share in (0.0, 0.1)
    )
    own = sum(calm.parts[name] for name in OWN_PARTS)
    assert own < 0.95 * calm.step_seconds
    more = nervous.step_seconds - calm.step_seconds
    assert more == pytest.approx(nervous.parts["straggler_seconds"])
    assert 0.2 * own < more < 0.35 * own  # the expected maximum of 512 is about three standard deviations


def test_tensor_parallel_ends_cost_two_more_sums_than_the_layers() -> None:
    """With 80 layers, four sums each, and two ends: 322 to 320."""
    job = replace(JOB, shape=replace(DENSE, num_layers=1))
    one, two = (
        predicted(TrainingStrategy(tp=8), replace(job, shape=replace(DENSE, num_layers=layers))).parts["tensor_seconds"]
        for layers in (1, 2)
    )
    assert one / (two - one) == pytest.approx(1.0 + 2.0 / 4.0)


def test_a_rank_that_sends_all_of_a_boundary_sends_tp_times_as_much() -> None:
    strategy, job = TrainingStrategy(tp=8, pp=8, dp=2), Job(replace(DENSE, sequence=131072), 16)
    slices, whole = (predicted(strategy, job, sends_slices=own).parts["pipeline_seconds"] for own in (True, False))
    assert whole == pytest.approx(8.0 * slices, rel=0.03)


def test_nothing_is_hidden_where_ranks_compute_on_the_cores_that_move_data() -> None:
    strategy = TrainingStrategy(dp=8, zero=3, recompute="full")
    job = Job(find_model("llama3-8b"), 64)
    hidden, shown = (predicted(strategy, job, replace(H100, overlaps=own)) for own in (True, False))
    assert shown.parts["data_seconds"] > 1.5 * hidden.parts["data_seconds"]
    assert shown.parts["compute_seconds"] == hidden.parts["compute_seconds"]


def test_a_power_cap_slows_attention_as_it_does_products() -> None:
    strategy = TrainingStrategy(cp=8, recompute="none")
    job = Job(replace(DENSE, sequence=131072), 1)
    full, capped = (
        predicted(strategy, job, replace(H100, power_watts=watts, nominal_watts=700.0)).parts["compute_seconds"]
        for watts in (700.0, 700.0 / 8)
    )
    # Half the clock: whatever is not bound by memory takes twice as long.
    assert 1.8 * full < capped <= 2.0 * full


def test_keys_from_other_ranks_slow_attention_by_their_share() -> None:
    job = Job(replace(DENSE, sequence=131072), 1)
    common = frozen().common
    one, two = (
        Predictor(
            job, H100, replace(frozen(), common=replace(common, ring_share=share)), "torchtitan", jitter_share=0.0
        ).predict(TrainingStrategy(cp=8)).parts["compute_seconds"]
        for share in (1.0, 0.5)
    )  # fmt: skip
    attention = 0.5 * 3.5 * 4.0 * 131072 / 8 * 131072 * DENSE.head_dim * DENSE.num_heads * DENSE.num_layers
    rate = 335e12 * common.attention_share
    assert two - one == pytest.approx(attention / rate, rel=1e-6)


def test_a_compiled_loss_keeps_a_third_of_the_logits_and_takes_less_time() -> None:
    job, strategy = Job(find_model("llama3-8b"), 16), TrainingStrategy(dp=8, microbatch=2, zero=3)
    eager, compiled = (predicted(strategy, job, compiled_loss=own) for own in (False, True))
    logits = 2 * 8192 * job.shape.vocabulary
    assert eager.memory.activations - compiled.memory.activations == pytest.approx(8.0 * logits)
    assert compiled.step_seconds < eager.step_seconds


def test_in_fp8_transformer_engine_keeps_the_inputs_of_products_in_a_byte() -> None:
    """Llama 3 405B: 27.5 hidden sizes a token and layer against 33.75, counted from its modules."""
    shape = find_model("llama3-405b")
    strategy = TrainingStrategy(tp=8, pp=14)
    counts = [9] * 14
    for precision, own, hidden in (("fp8", True, 27.5), ("fp8", False, 33.75), ("bf16", True, 33.75)):
        stack = replace(frozen().stacks["nemo"], eight_bit_inputs=own)
        constants = replace(frozen(), stacks={"mine": stack})
        made = Predictor(Job(replace(shape, sequence=8192), 64, precision), H100, constants, "mine")
        activations = made.holdings.rank_memory(strategy, counts, 0, 1.0).activations
        assert activations / (8192 * 9 / 8 * shape.hidden) == pytest.approx(hidden, rel=1e-3)


def test_experts_are_whole_and_spread_over_tensor_ranks_too() -> None:
    """128 experts over 32 of tp 2 x dp 16 devices: four whole ones each; with ep 1 the half of all 128."""
    job = Job(MIXTURE, 2048)
    folded, divided = TrainingStrategy(tp=2, pp=2, dp=16, ep=32), TrainingStrategy(tp=2, pp=2, dp=16)
    assert (folded.expert_tp, folded.expert_replicas) == (1, 1)
    assert (divided.expert_tp, divided.expert_replicas) == (2, 16)
    one, other = (predicted(strategy, job) for strategy in (folded, divided))
    layers = MIXTURE.num_layers // 2
    per_expert = 2.0 * layers * MIXTURE.expert_parameters
    assert other.memory.parameters - one.memory.parameters == pytest.approx(per_expert * (128 / 2 - 128 / 32))
    assert one.parts["expert_seconds"] > 0.0 == other.parts["expert_seconds"]
    with pytest.raises(BenchError, match="ep 64 has to divide 128 experts and tp x dp x cp, 32"):
        predicted(replace(folded, ep=64), job)


def test_as_many_rows_of_experts_are_multiplied_however_they_are_spread() -> None:
    """FLOPs of a device are the same: only the shapes of the products differ."""
    job = Job(MIXTURE, 2048)
    folded, divided = (
        predicted(TrainingStrategy(tp=2, pp=2, dp=16, ep=ep), job).parts["compute_seconds"] for ep in (2, 1)
    )  # fmt: skip
    assert folded == pytest.approx(divided, rel=0.15)


def test_experts_and_all_else_are_gathered_over_the_devices_that_hold_the_same() -> None:
    """64 devices, tp 2: 32 replicas of the dense part, 2 apart; of 8 groups of whole experts 8 replicas, 8 apart."""
    made = Predictor(Job(MIXTURE, 64), H100, frozen(), "megatron-core")
    strategy = TrainingStrategy(tp=2, dp=32, ep=8, zero=3)
    held = made.holdings.layer_parameters(strategy, mixture=True)
    dense, expert = made._replicated(strategy, held)
    assert dense == (held.dense, made.network.group(32, 2))
    assert expert == (held.expert, made.network.group(8, 8))
    assert held.expert == 128 / 8 * MIXTURE.expert_parameters
    # One replica of the experts: nothing to gather of them.
    assert len(list(made._replicated(TrainingStrategy(tp=2, dp=32, ep=64, zero=3), held))) == 1


def test_experts_are_reduced_even_where_the_rest_has_one_replica() -> None:
    job = Job(MIXTURE, 8)
    some, none = (predicted(TrainingStrategy(tp=8, pp=2, ep=ep), job).parts["data_seconds"] for ep in (2, 8))
    assert some > 0.0 == none


def test_whole_experts_need_no_gather_along_the_sequence() -> None:
    """Two transfers a layer, attention's, in place of four; the ends have theirs either way."""
    job = replace(JOB, shape=replace(MIXTURE, num_layers=1, dense_layers=0))

    def tensor_seconds(layers: int, ep: int) -> float:
        shape = replace(job.shape, num_layers=layers)
        return predicted(TrainingStrategy(tp=4, dp=2, ep=ep), replace(job, shape=shape)).parts["tensor_seconds"]

    whole, divided = (tensor_seconds(3, ep) - tensor_seconds(2, ep) for ep in (8, 1))
    assert whole == pytest.approx(0.5 * divided)


def test_attention_is_never_faster_than_the_best_product() -> None:
    for name in hardware.names():
        try:
            device = hardware.find(name, nic_gbit=400)
        except BenchError:
            continue
        for kernel in ("fused", "flash2"):
            rate = attention_flops_per_s(kernel, device.name, device.reached_bf16_flops_per_s)
            assert rate < device.reached_bf16_flops_per_s


def test_one_scale_a_row_multiplies_slower_than_one_a_tensor() -> None:
    tensor, row = (Multiplier(H100, frozen().common, precision) for precision in ("fp8", "fp8-rowwise"))
    assert tensor.seconds(8192, 8192, 8192) / row.seconds(8192, 8192, 8192) == pytest.approx(ROWWISE_SHARE)
    assert row.operand_bytes == tensor.operand_bytes == 1.0


def test_a_libraries_unit_is_of_the_busiest_rank() -> None:
    made = Predictor(Job(DENSE, 64), H100, frozen(), "megatron-core")
    ends = DENSE.embedding_parameters / 8
    layers = 10 * (DENSE.attention_parameters + DENSE.dense_ffn_parameters) / 8
    assert made.rank_work(TrainingStrategy(tp=8, pp=8, dp=2)) == RankWork(10, layers + ends, 32)


def test_cores_that_ranks_share_stand_idle_only_while_fewer_ranks_than_cores_work() -> None:
    """Four ranks on two cores: the first forward and the last backward have one for themselves; on one core none."""
    assert pipeline.idle_cores(4, 0.5) == pytest.approx(0.5 * (2 - 1) / 2)
    assert pipeline.idle_cores(4, 0.25) == pipeline.idle_cores(2, 0.5) == 0.0
    assert pipeline.idle_cores(8, 1.0) == pytest.approx(7 / 2)


def test_with_a_device_each_the_schedule_alone_says_what_is_idle() -> None:
    """126 layers of 16 x 8 stages, two microbatches a rank: a bubble of (p - 1) / (v m), no more."""
    job = Job(find_model("llama3-405b"), 32)
    found = predicted(TrainingStrategy(tp=8, pp=16, interleave=8, schedule="interleaved"), job)
    busy = sum(found.parts[name] for name in ("compute_seconds", "host_seconds", "tensor_seconds", "pipeline_seconds"))
    assert found.pipeline_method == "replay"
    assert found.parts["idle_seconds"] / busy == pytest.approx(15 / (8 * 32), rel=0.1)


def test_tokens_that_go_to_whole_experts_are_the_ranks_own_part() -> None:
    """Permuted tokens: of tp 4 with experts divided, each rank moves all of them; with whole ones, its quarter."""
    job = Job(MIXTURE, 64)
    made = Predictor(job, H100, frozen(), "megatron-core")
    moved = {}
    for ep in (1, 8):
        part = made._slice(TrainingStrategy(tp=4, dp=2, ep=ep))
        with_experts = made.layers._memory(part, 0.0, mixture=True, factor=1.0)
        moved[ep] = with_experts - made.layers._memory(part, 0.0, mixture=False, factor=1.0)
    tokens = 4.0 * MIXTURE.active_experts * MIXTURE.hidden * 4096
    assert moved[1] == pytest.approx(made.stack.traffic * 2.0 * tokens / made.bytes_per_s)
    assert moved[8] == pytest.approx(moved[1] / 4)
