"""The screen of a comparison: the answer first, four columns, nothing wider than the terminal."""

from __future__ import annotations

import pytest

from bench.analysis.comparison_output import comparison_screen
from bench.analysis.comparison_output.comparison_screen import Screen
from bench.core.cell_text import width as cell_width
from bench.core.styles import style
from tests.analysis.compare.test_work_changes import architectures

HEADS = ["case", "change", "95%", "interval", "verdict"]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_change_interval_and_verdict_never_give_way(width: int) -> None:
    text = comparison_screen.show(architectures("slow-rank"), Screen(width=width))
    lines = text.splitlines()
    assert lines[0].startswith("slow rank (emulated) takes 1.9x as long as plain in training (1.5x to 2.4x);")
    assert max(map(cell_width, lines)) <= width
    assert len(lines) <= (35 if width < 100 else 31)
    (head,) = [line.split() for line in lines if line.startswith("case ")]
    assert head == HEADS if width <= 100 else head == ["case", "base", "new", *HEADS[1:]]
    assert not any("SHA-256" in line or "not shown" in line for line in lines)


def test_undecided_cases_say_what_would_settle_them() -> None:
    text = comparison_screen.show(architectures("slow-rank"), Screen(everything=True))
    rows = {line.split("   ")[0].strip(): line for line in text.splitlines()}
    assert rows["one_way 4 MiB"].endswith("0.962x to 1.26x    unclear (+3, 4 min)")
    assert rows["barrier"].endswith("unclear (varies)")
    assert "unclear (+6, 7 min): 6 more launches per side, about 7 min, would settle it" in text
    assert "unclear (varies): this machine varies too much; over 30 more launches would be needed" in text
    assert "Same in all cases of a kind: " in text


def test_one_table_per_side_with_its_name() -> None:
    lines = comparison_screen.show(architectures("slow-rank", "shaped-link"), Screen()).splitlines()
    heads = [number for number, line in enumerate(lines) if line.split() == HEADS]
    assert [lines[number - 1] for number in heads] == [
        "slow rank (emulated) against plain",
        "shaped link against plain",
    ]
    assert lines.index("slow rank (emulated) against plain") < lines.index("shaped link against plain")


def test_verdicts_have_colours_of_their_own() -> None:
    text = comparison_screen.show(architectures("slow-rank"), Screen(colour=True, everything=True))
    assert style("slower", "red", True) in text
    assert style("unclear (varies)", "dim", True) in text
