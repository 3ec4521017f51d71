"""Observation of work on a device: communication, memory, series over time."""
