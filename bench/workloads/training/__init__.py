"""Whole training steps and inference, and their checks."""
