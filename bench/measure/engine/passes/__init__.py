"""Passes besides the timed one: spans, a profile, the choices of NCCL."""
