"""Launching: processes of ranks, their supervision, progress, and the recording of events."""
