"""A strategy to train a job, and the predicted step: seconds, parts, memory."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from bench.errors import BenchError
from bench.parallelism.layout import Job, Layout
from bench.predict.model import pipeline
from bench.predict.model.layer import RECOMPUTE
from bench.predict.model.memory import Memory
from bench.predict.rates.device import Device

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
class TrainingStrategy(Layout):
    """A layout of a job, and how each replica computes its share of the batch."""

    microbatch: int = 1
    """Sequences."""
    interleave: int = 1
    """Stages of each pipeline rank."""
    schedule: str = "1f1b"
    recompute: str = "none"
    zero: int = 0


PARTS = (
    *("compute_seconds", "host_seconds", "tensor_seconds", "context_seconds", "expert_seconds"),
    *("pipeline_seconds", "idle_seconds", "data_seconds", "optimizer_seconds", "straggler_seconds"),
)
"""Parts of a step's time. compute: work of the busiest rank's device; host: its wait for kernels to be
launched; tensor, context, expert, pipeline, data: transfers that nothing hides; idle: the pipeline's bubble."""


@dataclass(frozen=True)
class Prediction:
    """A predicted step. Never a measurement, and never shown as one."""

    job: Job
    strategy: TrainingStrategy
    device: Device
    devices: int
    """Paid for, idle ones included."""
    step_seconds: float
    parts: dict[str, float]
    memory: Memory
    fits: bool | None
    """None if the device's memory is not known."""
    pipeline_method: str
    error_share: float
    notes: tuple[str, ...] = field(default=())

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval in seconds, from the error on published runs that nothing was fitted to (or on local
        measurements)."""
        factor = math.exp(1.96 * self.error_share)
        return self.step_seconds / factor, self.step_seconds * factor

    @property
    def tokens_per_s(self) -> float:
        return self.job.tokens / self.step_seconds

    @property
    def model_flops_per_device_s(self) -> float:
        return self.tokens_per_s * self.job.shape.step_flops_per_token() / self.devices

    @property
    def mfu(self) -> float:
        """Model FLOP/s over the peak of the job's precision."""
        return self.model_flops_per_device_s / self.device.flops_per_s(self.job.precision)

    def row(self) -> dict[str, object]:
        low, high = self.interval
        return {
            **asdict(self.strategy),
            "devices": self.devices,
            "idle_devices": self.devices - self.strategy.world_size,
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


def refuse(job: Job, strategy: TrainingStrategy) -> None:
    """Raises BenchError for a split that the job cannot have, with the numbers."""
    shape = job.shape
    for name, size in {**asdict(strategy), "global batch": job.global_batch, "sequence": job.sequence}.items():
        if isinstance(size, int) and size < (0 if name == "zero" else 1):
            raise BenchError(f"{name} {size}: has to be at least 1")
    if strategy.recompute not in RECOMPUTE:
        raise BenchError(f"recomputation {strategy.recompute!r}: there are: {', '.join(RECOMPUTE)}")
    pipeline.formula(strategy.schedule)
    if shape.num_heads % strategy.tp:
        raise BenchError(f"tp {strategy.tp} does not divide {shape.num_heads} heads of {shape.name}")
    if strategy.pp * (strategy.interleave - 1) >= shape.num_layers or strategy.pp > shape.num_layers:
        raise BenchError(
            f"pp {strategy.pp} x interleave {strategy.interleave}: more stages than the {shape.num_layers} layers"
        )
    if strategy.ep > 1 and (shape.num_experts % strategy.ep or strategy.stage_ranks % strategy.ep):
        raise BenchError(
            f"ep {strategy.ep} has to divide {shape.num_experts} experts and tp x dp x cp, {strategy.stage_ranks}"
        )
    if job.sequence % strategy.cp:
        raise BenchError(f"cp {strategy.cp} does not divide a sequence of {job.sequence}")
    if strategy.zero not in (0, 1, 2, 3):
        raise BenchError(f"zero {strategy.zero}: the stages are 0 to 3")
