"""Files that `bench import` knows and does not read, and a sentence on each that says which file it does read."""

from __future__ import annotations

import re

from bench.importers.source.cleaning import num_result_objects

OTHER_FORMS = tuple(
    (re.compile(pattern, re.M), advice)
    for pattern, advice in (
        (r"^nvbandwidth Version:", "the printed text of nvbandwidth, which is not read; write it with nvbandwidth -j"),
        (
            r'"identifier"\s*:\s*"nccl-tests structured output"',
            "a JSON of a fork of nccl-tests, which is not read; import its printed table",
        ),
        (r"^:::MLP?L?(?:v[\d.]+)?\s", "a log of MLPerf before its lines were :::MLLOG, which is not read"),
        (r"^=+\s*\nMLPerf Results Summary", "a log of MLPerf Inference, which is not read"),
        (r'^\{"kind": ?"header", ?"schema"', "a result of bench already; name it to `bench show`"),
        (r'"library_build_type"|"run_type"\s*:\s*"iteration"', "a JSON of Google Benchmark, which is not read"),
    )
)
"""Pattern of a text -> a sentence on it."""
_HEAD = 2**16
"""Characters at the beginning of a text that are searched."""


def describe_other_form(text: str) -> str | None:
    """A sentence on a text that no format reads; None if nothing is known of it."""
    if not text.strip():
        return "the file is empty"
    if (number := num_result_objects(text)) > 1:
        return f"{number} JSON documents in one file; save each in a file of its own"
    return next((advice for pattern, advice in OTHER_FORMS if pattern.search(text[:_HEAD])), None)
