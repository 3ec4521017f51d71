"""NVLinks of a GPU as they are wired in the products that it is sold in, each with its source.

The data file is `bench/catalog/data/nvlinks.csv`. A chip may have more links than its product wires: of the 18 of an
H100 NVL the bridge takes 12.
"""

from __future__ import annotations

import csv
import functools
import io
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_args

from bench.catalog.accelerators import find

Wiring = Literal["board", "bridge", "optional bridge"]
"""Links over the board, over a bridge that belongs to the product, or over a bridge that its owner may leave out."""


@dataclass(frozen=True)
class WiredLinks:
    """One row of the data file."""

    accelerator: str
    links: int
    wiring: Wiring
    source: str


def wired_links(driver_name: str) -> WiredLinks | None:
    """Links of the GPU that a driver names; None if the catalogue does not know how many are wired."""
    accelerator = find(driver_name)
    return None if accelerator is None else _rows().get(accelerator.name)


@functools.cache
def _rows() -> dict[str, WiredLinks]:
    text = (resources.files("bench.catalog.data") / "nvlinks.csv").read_text(encoding="utf-8")
    known: dict[str, Wiring] = {wiring: wiring for wiring in get_args(Wiring)}
    return {
        row["accelerator"]: WiredLinks(row["accelerator"], int(row["links"]), known[row["wiring"]], row["source"])
        for row in csv.DictReader(io.StringIO(text))
    }
