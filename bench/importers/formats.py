"""Formats of other tools' files, and the modules that read them: imported as a file is read, so that help is light."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.importers.reading import ImportedText, ImportHints


@dataclass(frozen=True)
class Format:
    """One row: a form in which a tool writes, and the module that reads it."""

    tool: str
    """Name for `--from`."""
    module: str

    @property
    def looks_like(self) -> Callable[[str], bool]:
        function: Callable[[str], bool] = importlib.import_module(self.module).looks_like
        return function

    @property
    def read(self) -> Callable[[str, ImportHints], ImportedText]:
        function: Callable[[str, ImportHints], ImportedText] = importlib.import_module(self.module).read
        return function


FORMATS = (
    Format("pytest-benchmark", "bench.importers.pytest_benchmark"),
    Format("nvbandwidth", "bench.importers.nvbandwidth"),
    Format("nccl-tests", "bench.importers.nccl_tests.json_file"),
    Format("nccl-tests", "bench.importers.nccl_tests.printed_text"),
    Format("param", "bench.importers.param"),
    Format("osu", "bench.importers.osu"),
    Format("mlperf", "bench.importers.mlperf.log"),
    Format("all_reduce_bench", "bench.importers.all_reduce_bench"),
)
"""Formats, tried in this order. A further tool is a further row."""
TOOLS = tuple(dict.fromkeys(row.tool for row in FORMATS))
