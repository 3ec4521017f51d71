"""The result file: written lines, reading, rows, metrics. It alone connects measuring and reading."""
