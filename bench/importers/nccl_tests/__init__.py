"""Readers of what nccl-tests and rccl-tests write: their text, and their JSON."""
