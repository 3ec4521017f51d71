"""Published facts: every figure has a source, and every accelerator is one of the catalogue."""

from __future__ import annotations

import pytest

from bench.catalog import published
from bench.catalog.accelerators import named


def test_the_parts_of_a_published_cluster_add_up_to_its_published_number() -> None:
    parts = published.cluster("Colossus 1")
    assert sum(part.count for part in parts) == 230_000
    assert all(part.address.startswith("https://") and part.source and part.as_of for part in parts)
    assert {named(part.accelerator).name for part in parts} == {part.accelerator for part in parts}
    assert published.cluster("none such") == ()


def test_a_node_takes_more_than_its_accelerators() -> None:
    for name, node in published.nodes().items():
        alone = named(name).power_watts
        assert alone is not None
        assert 1000.0 * node.kw_per_accelerator > alone, node.name
        assert node.source


def test_published_speeds_come_in_pairs_of_one_source() -> None:
    rows = published.speeds()
    assert len(rows) == 8
    for model in {row.model for row in rows}:
        pair = [row for row in rows if row.model == model]
        assert len({row.accelerator for row in pair}) == 2
        assert len({row.source for row in pair}) == 1
        assert max(row.tokens_per_s for row in pair) / min(row.tokens_per_s for row in pair) == pytest.approx(
            2.8, abs=0.7
        )
