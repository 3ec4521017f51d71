"""Costs of a job: failures, checkpoints, prices."""
