"""Sentences on kinds that are known by their data sheets alone: figures in which they differ, and what is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bench.analysis.findings.kinds import Remark
from bench.catalog.accelerators import Accelerator
from bench.predict.mix.cluster import MixedCluster


class Quantity(NamedTuple):
    """A figure of the catalogue that a mix's loss by peaks leaves out."""

    value: Callable[[Accelerator], float | None]
    unit: str


QUANTITIES: Mapping[str, Quantity] = {
    "memory": Quantity(lambda row: row.memory_gb, "GB"),
    "memory bandwidth": Quantity(lambda row: row.memory_tb_per_s, "TB/s"),
    "links within a node": Quantity(lambda row: row.scaleup_one_way_gb_per_s, "GB/s one way"),
    "NICs": Quantity(lambda row: row.scaleout_nic_gbit_per_s, "Gbit/s"),
}
"""Name -> figure; none of them is in a loss by peaks."""


def equal_peaks(cluster: MixedCluster) -> str:
    """The answer for kinds whose peaks are equal; empty if they are not, or are measured."""
    rows = _accelerators(cluster)
    if len(rows) < len(cluster.kinds) or len({row.bf16_dense_tflop_per_s for row in rows}) > 1:
        return ""
    differing = _differing(rows)
    rest = f"{_joined(differing)} differ, and are not in this figure" if differing else "nothing else is in this figure"
    peak, each = rows[0].bf16_dense_tflop_per_s, "both" if len(rows) == 2 else "each"
    return f"Equal peaks in bf16 ({peak:,g} TFLOP/s): this mix is not limited by compute; {rest}: measure {each}"


def catalogue_remark(cluster: MixedCluster) -> Remark:
    """Figures that the catalogue has alike, that differ, and that it does not have."""
    rows = _accelerators(cluster)
    differing = [] if equal_peaks(cluster) else _differing(rows)
    equal = [f"{name} ({_texts(name, rows)})" for name in QUANTITIES if _is_equal(name, rows)]
    lacking = [name for name in QUANTITIES if None in _values(name, rows)]
    parts = [f"{_joined(differing)} differ, and are not in this figure"] if differing else []
    parts += [f"{_joined(equal)} are equal"] if equal else []
    parts += [f"{_joined(lacking)} are not in the catalogue for every kind"] if lacking else []
    parts.append("the network between the kinds is not known")
    text = "; ".join(parts)
    return Remark(text=text[0].upper() + text[1:], remedy="Measure each kind, and the mix by the suite heterogeneous")


def _accelerators(cluster: MixedCluster) -> list[Accelerator]:
    return [kind.accelerator for kind in cluster.kinds if kind.accelerator is not None]


def _values(name: str, rows: list[Accelerator]) -> list[float | None]:
    return [QUANTITIES[name].value(row) for row in rows]


def _is_equal(name: str, rows: list[Accelerator]) -> bool:
    values = set(_values(name, rows))
    return len(values) == 1 and None not in values


def _differing(rows: list[Accelerator]) -> list[str]:
    return [
        f"{name} ({_texts(name, rows)})"
        for name in QUANTITIES
        if None not in _values(name, rows) and not _is_equal(name, rows)
    ]


def _texts(name: str, rows: list[Accelerator]) -> str:
    """Figures in the order of the kinds, one if they are equal, with the unit once."""
    values = dict.fromkeys(f"{value:g}" for value in _values(name, rows) if value is not None)
    return f"{_joined(list(values))} {QUANTITIES[name].unit}"


def _joined(texts: list[str]) -> str:
    return ", ".join(texts[:-1]) + (" and " if texts[:-1] else "") + texts[-1]
