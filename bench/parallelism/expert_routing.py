"""Routing of tokens to experts: made, not learned, so that its unevenness can be set.

Pure arithmetic; importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Routing:
    """The tokens of one rank, each of which chooses `top_k` different experts."""

    num_tokens: int
    num_experts: int
    top_k: int
    imbalance: float
    """Share of the tokens that choose the busiest expert, number 0. Even is top_k / num_experts, 1 is all of them."""

    @property
    def even(self) -> float:
        return self.top_k / self.num_experts

    @property
    def num_busy(self) -> int:
        """Tokens that choose expert 0."""
        return round(self.imbalance * self.num_tokens)

    def loads(self) -> list[int]:
        """Tokens of a rank that choose each expert: the busy share for expert 0, the rest evenly."""
        base, more = divmod(self.num_tokens * self.top_k - self.num_busy, self.num_experts - 1)
        return [self.num_busy, *(base + (index < more) for index in range(self.num_experts - 1))]

    def rank_loads(self, size: int) -> list[int]:
        """Rows that the experts of each of `size` ranks get from all ranks together."""
        loads, per_rank = self.loads(), self.num_experts // size
        return [size * sum(loads[rank * per_rank : (rank + 1) * per_rank]) for rank in range(size)]

    def load_imbalance(self, size: int) -> float:
        """Rows of the busiest rank / mean over the ranks."""
        loads = self.rank_loads(size)
        return max(loads) * size / sum(loads)

    def objection(self, size: int) -> str | None:
        """Reason why there is no such routing over this many ranks, with the numbers; None if there is one."""
        if min(self.num_tokens, self.top_k, self.num_experts) < 1:
            return f"tokens_per_rank={self.num_tokens}, top_k={self.top_k}, num_experts={self.num_experts}: one is < 1"
        if self.num_experts % size:
            return f"num_experts={self.num_experts} cannot be split evenly over {size} ranks"
        if self.top_k >= self.num_experts:
            return f"top_k={self.top_k} leaves nothing to choose among num_experts={self.num_experts}"
        if not self.even <= self.imbalance <= 1:
            return (
                f"imbalance={self.imbalance:g}: the busiest expert's share of the tokens lies between the even "
                f"top_k / num_experts = {self.even:g} and 1"
            )
        return None
