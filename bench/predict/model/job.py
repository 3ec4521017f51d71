"""What is predicted: a job, how it is split over devices, and the answer.

Ranks are placed as Megatron-LM places them: tensor parallelism innermost, then context, then data, pipeline outermost
(megatron/core/parallel_state.py), so that tensor parallelism stays within a domain wherever it fits.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from bench.errors import BenchError
from bench.parallelism.model_shapes import Shape
from bench.predict.model import pipeline
from bench.predict.model.layer import RECOMPUTE
from bench.predict.model.memory import Memory
from bench.predict.rates.device import Device, is_eight_bit

NOT_MODELLED = (
    "congestion between jobs or between groups of one job, and the fabric's topology above the NIC",
    "contention for memory and links between computation and transfers, beyond one fitted share",
    "imbalance of experts, of sequence lengths and of attention's causal mask across context-parallel ranks",
    "activations that are offloaded to the host",
    "clocks that fall with temperature, data loading, checkpoints (see failures), evaluation, start-up",
    "in-network reduction (SHARP, NVLS), and the choice between NCCL's algorithms and protocols",
    "multi-head latent attention, multi-token prediction, state-space layers, sliding windows",
)


@dataclass(frozen=True)
class Job:
    """What is trained. `global_batch` is in sequences."""

    shape: Shape
    sequence: int
    global_batch: int
    precision: str = "bf16"

    @property
    def tokens(self) -> int:
        return self.sequence * self.global_batch

    @property
    def is_eight_bit(self) -> bool:
        return is_eight_bit(self.precision)

    @property
    def element_bytes(self) -> float:
        """Of an activation, and of a parameter as it is computed with; fp8 is for the products only."""
        return 4.0 if self.precision == "fp32" else 2.0


@dataclass(frozen=True)
class Split:
    """How a job is spread: `dp` replicas, each of tp x cp x pp devices.

    Experts are whole, and spread over ep of a stage's tp x cp x dp devices (Megatron-LM's folding: expert tensor
    parallelism of 1, megatron/core/parallel_state.py); with an ep of 1 every device has its tp-th part of all experts.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    cp: int = 1
    ep: int = 1
    microbatch: int = 1
    interleave: int = 1
    schedule: str = "1f1b"
    recompute: str = "none"
    zero: int = 0

    @property
    def devices(self) -> int:
        return self.stage_devices * self.pp

    @property
    def stage_devices(self) -> int:
        return self.tp * self.dp * self.cp

    @property
    def expert_tp(self) -> int:
        return self.tp if self.ep == 1 else 1

    @property
    def expert_replicas(self) -> int:
        """Devices that hold the same part of the same experts."""
        return max(1, self.stage_devices // (self.ep * self.expert_tp))


PARTS = (
    *("compute_seconds", "host_seconds", "tensor_seconds", "context_seconds", "expert_seconds"),
    *("pipeline_seconds", "idle_seconds", "data_seconds", "optimizer_seconds", "straggler_seconds"),
)
"""What a step's time is made of. compute: what the busiest rank's device does; host: what it waits for kernels to be
launched; tensor, context, expert, pipeline, data: transfers that nothing hides; idle: the pipeline's bubble."""


@dataclass(frozen=True)
class Prediction:
    """A predicted step. Never a measurement, and never shown as one."""

    job: Job
    split: Split
    device: Device
    devices: int
    """Paid for, idle ones included."""
    step_seconds: float
    parts: dict[str, float]
    memory: Memory
    fits: bool | None
    """None where the device's memory is not known."""
    pipeline_method: str
    error_share: float
    notes: tuple[str, ...] = field(default=())

    @property
    def interval(self) -> tuple[float, float]:
        """95%, from the error on published runs that nothing was fitted to (or on what was measured here)."""
        factor = math.exp(1.96 * self.error_share)
        return self.step_seconds / factor, self.step_seconds * factor

    @property
    def tokens_per_s(self) -> float:
        return self.job.tokens / self.step_seconds

    @property
    def model_flops_per_device_s(self) -> float:
        return self.tokens_per_s * self.job.shape.model_flops_per_token(self.job.sequence) / self.devices

    @property
    def mfu(self) -> float:
        """Against the peak of the job's precision."""
        return self.model_flops_per_device_s / self.device.flops_per_s(self.job.precision)

    def row(self) -> dict[str, object]:
        low, high = self.interval
        return {
            **asdict(self.split),
            "devices": self.devices,
            "idle_devices": self.devices - self.split.devices,
            "step_seconds": self.step_seconds,
            "step_seconds_low": low,
            "step_seconds_high": high,
            "tokens_per_s": self.tokens_per_s,
            "model_tflop_per_s_per_device": self.model_flops_per_device_s / 1e12,
            "mfu": self.mfu,
            "memory_gb": self.memory.total / 1e9,
            "fits": self.fits,
            **self.parts,
        }


def refuse(job: Job, split: Split) -> None:
    """Raises BenchError for a split that the job cannot have, with the numbers."""
    shape = job.shape
    for name, size in {**asdict(split), "global batch": job.global_batch, "sequence": job.sequence}.items():
        if isinstance(size, int) and size < (0 if name == "zero" else 1):
            raise BenchError(f"{name} {size}: has to be at least 1")
    if split.recompute not in RECOMPUTE:
        raise BenchError(f"recomputation {split.recompute!r}: there are: {', '.join(RECOMPUTE)}")
    pipeline.schedule(split.schedule)
    if shape.heads % split.tp:
        raise BenchError(f"tp {split.tp} does not divide {shape.heads} heads of {shape.name}")
    if split.pp * (split.interleave - 1) >= shape.layers or split.pp > shape.layers:
        raise BenchError(f"pp {split.pp} x interleave {split.interleave}: more stages than the {shape.layers} layers")
    if split.ep > 1 and (shape.experts % split.ep or split.stage_devices % split.ep):
        raise BenchError(f"ep {split.ep} has to divide {shape.experts} experts and tp x dp x cp, {split.stage_devices}")
    if job.sequence % split.cp:
        raise BenchError(f"cp {split.cp} does not divide a sequence of {job.sequence}")
    if split.zero not in (0, 1, 2, 3):
        raise BenchError(f"zero {split.zero}: the stages are 0 to 3")
