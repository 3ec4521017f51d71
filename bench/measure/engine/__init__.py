"""Measuring within a rank: processes that take up cases, check them, time them and gather samples."""
