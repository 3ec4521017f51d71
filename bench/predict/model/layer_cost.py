"""What one layer, or all layers of a rank, cost for one microbatch in one direction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCost:
    """Seconds of one layer, or of all layers of a rank, for one microbatch in one direction."""

    compute_seconds: float = 0.0
    host_seconds: float = 0.0
    tensor_seconds: float = 0.0
    context_seconds: float = 0.0
    expert_seconds: float = 0.0
    pipeline_seconds: float = 0.0
    data_seconds: float = 0.0

    @property
    def total(self) -> float:
        return (
            self.compute_seconds + self.host_seconds + self.tensor_seconds + self.context_seconds
            + self.expert_seconds + self.pipeline_seconds + self.data_seconds
        )  # fmt: skip

    def plus(self, other: LayerCost, times: float = 1.0) -> LayerCost:
        return LayerCost(
            self.compute_seconds + times * other.compute_seconds,
            self.host_seconds + times * other.host_seconds,
            self.tensor_seconds + times * other.tensor_seconds,
            self.context_seconds + times * other.context_seconds,
            self.expert_seconds + times * other.expert_seconds,
            self.pipeline_seconds + times * other.pipeline_seconds,
            self.data_seconds + times * other.data_seconds,
        )
