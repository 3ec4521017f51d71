"""Findings: a short list of typed conclusions of a result or a comparison, the same wherever it is shown."""
