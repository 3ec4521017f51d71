"""Plain tools that know nothing of benchmarks: values and units, tables, JSON Lines, exit codes, the clock."""
