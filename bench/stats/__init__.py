"""Statistics: intervals, distributions, tests of change, outliers, drift."""
