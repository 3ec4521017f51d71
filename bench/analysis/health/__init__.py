"""Verdict on a machine from one result: healthy or not, and which rank differs."""
