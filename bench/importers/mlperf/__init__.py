"""Logs of MLPerf Training: lines `:::MLLOG {...}`, and `:::SYSJSON {...}` with the description of the system."""
