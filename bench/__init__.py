"""Measures how fast a machine or a cluster really is for distributed training.

Importing this package does nothing and costs nothing: no torch, no pandas. `bench.load` is the Python interface to
saved results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    import pandas as pd

    from bench.records.dataframes import Columns, Level

__all__ = ["__version__", "load"]
__version__ = "0.2.0"


def __dir__() -> list[str]:
    """The public names, for anyone who explores the package."""
    return __all__


def load(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]], level: Level = "case", columns: Columns = "all"
) -> pd.DataFrame:
    """Saved result files as one tidy frame, a row per case: `bench.load("results", columns="main")`.

    `level` is "case", "launch", "rank" or "sample"; `columns` is "all" or "main". An example is in
    `bench.records.dataframes.load`.
    """
    from bench.records.dataframes import load as load_frame

    return load_frame(paths, level=level, columns=columns)
