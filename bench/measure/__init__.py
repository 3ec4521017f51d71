"""Measuring: from options to the lines of a result file."""
