"""Parallel layers: tensor, context, expert and pipeline parallelism, even and uneven."""
