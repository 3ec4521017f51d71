"""Shares of a step's parts: they add up to the step, in the row, in the ranks' table, and in files of any version."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.parallelism import step_breakdown
from bench.parallelism.step_breakdown import HEADS, PARTS, SHARES, TABLE, Parts
from bench.records.file import load
from bench.records.rows import case_rows
from tests import ROOT
from tests.support.results import header, measurement, save


def call(*ranks: dict[str, float]) -> list[Parts]:
    return [dict.fromkeys(PARTS, 0.0) | parts for parts in ranks]


UNEVEN = [
    call({"forward": 60, "backward": 30, "waiting": 10}, {"forward": 90, "backward": 10}),
    call({"forward": 30, "backward": 60, "waiting": 10}, {"forward": 10, "backward": 90}),
    call({"forward": 100, "backward": 100, "waiting": 800}, {"forward": 900, "backward": 100}),
]
"""Three calls of two ranks, of which the last is ten times as long: the medians of the parts' shares add up to 0.75."""


def test_shares_are_those_of_the_mean_step_and_of_the_ranks_table() -> None:
    shares = step_breakdown.mean_shares(UNEVEN)
    assert sum(share or 0.0 for share in shares.values()) == pytest.approx(1.0, abs=1e-12)
    assert shares["forward"] == pytest.approx((150 + 40 + 1000) / 2400)
    ranks = step_breakdown.rank_seconds(UNEVEN)
    step = sum(ranks[0].values())
    assert [sum(parts.values()) for parts in ranks] == pytest.approx([step, step])
    for part, share in shares.items():
        assert share == pytest.approx(sum(parts[part] for parts in ranks) / (2 * step))
    assert step_breakdown.mean_shares([]) == dict.fromkeys(PARTS)


def test_shares_of_an_old_file_are_read_from_its_table(tmp_path: Path) -> None:
    """It has shares that are medians part by part; a file without the table keeps what it has."""
    ranks = step_breakdown.rank_seconds(UNEVEN)
    table = {
        "columns": ["rank", *HEADS.values(), "step ms"],
        "rows": [[rank, *(1e3 * seconds for seconds in parts.values()), 4e-4] for rank, parts in enumerate(ranks)],
    }
    old = dict.fromkeys(SHARES.values(), 0.1)
    units = {name: ["share", "neither"] for name in old}
    first = measurement("training_step/run[tp=1]", derived=old, metrics=units, tables={TABLE: table})
    without = measurement("training_step/run[tp=2]", derived=old, metrics=units)
    (row, other) = case_rows([load(save(tmp_path / "old.jsonl", header(), first, without))])
    shares = step_breakdown.mean_shares(UNEVEN)
    assert {part: row[name] for part, name in SHARES.items()} == pytest.approx(shares)
    assert other["forward_share"] == 0.1
    assert step_breakdown.table_shares(["rank", "forward ms"], [[0, 1.0]]) == {}


@pytest.mark.parametrize("run", ["plain", "slow-rank", "shaped-link"])
def test_shares_of_saved_runs_add_up_over_their_launches(run: str) -> None:
    rows = case_rows([load(ROOT / f"results/emulated/{run}/launches-1.jsonl.gz")])
    steps = [row for row in rows if row["suite"] == "training_step" and row["status"] == "ok"]
    assert steps
    for row in steps:
        assert sum(row[name] for name in SHARES.values()) == pytest.approx(1.0, abs=1e-9)
