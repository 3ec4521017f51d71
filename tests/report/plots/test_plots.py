"""Plots: which are drawn of what, what they say, and that no text of a file becomes more than text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench.records.file import Result, load
from bench.report.plots import draw
from bench.report.plots.source import Plot, Source, families, labels
from bench.report.plots.style import DARK, LIGHT, VARIABLES, as_png, as_svg, binary, looks, shorten
from tests import ROOT
from tests.support.results import MILLISECOND, end, header, measurement, not_ok, save

REFERENCE = sorted((ROOT / "results" / "reference").glob("*.jsonl"))
GROUNDS = {"light": "#fefefe", "dark": "#14171b"}


def saved(tmp_path: Path, *records: Any, name: str = "a") -> Result:
    return load(save(tmp_path / f"{name}.jsonl", *records))


def drawn(*results: Result) -> dict[str, Plot]:
    return {plot.name: plot for plot in draw(Source.of([[result] for result in results]))}


def texts(plot: Plot) -> list[str]:
    root = ET.fromstring(as_svg(plot.figure, plot.name))
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")]


def sweep(scale: float = 1.0, launch: int = 0) -> list[Any]:
    return [
        measurement(f"collective/all_reduce[num_bytes={n}]", [[int(scale * n * 1000)] * 3] * 2, launch, bytes=n,
                    bus_factor=1.0)
        for n in (1024, 4096, 16384)
    ]  # fmt: skip


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("ground", "palette"), [("light", LIGHT), ("dark", DARK)])
def test_colours_have_the_contrast_that_text_needs(ground: str, palette: tuple[str, ...]) -> None:
    for colour in palette:
        light, dark = sorted((luminance(colour), luminance(GROUNDS[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


def test_one_machine_has_one_colour_and_sides_differ_without_colour() -> None:
    found = looks(["a", "b", "c"], ["H100", "A100", "H100"])
    assert len({look.colour for look in found.values()}) == 3
    many = looks([str(n) for n in range(12)], ["H100", "A100"] * 6)
    assert many["0"].colour == many["2"].colour != many["1"].colour
    assert len({look.marker for look in found.values()}) == len({look.hatch for look in found.values()}) == 3


def test_a_reference_run_gives_every_plot_that_one_file_can(tmp_path: Path) -> None:
    plots = drawn(load(REFERENCE[0]))
    assert {"collective-bandwidth", "collective-latency", "roofline", "speed-up", "idle", "timeline-1"} <= set(plots)
    assert any("message size" in text for text in texts(plots["collective-bandwidth"]))
    assert any("GB/s" in text for text in texts(plots["collective-bandwidth"]))
    assert {"rank 0", "rank 1"} <= set(texts(plots["timeline-1"]))
    assert all(plot.caption and plot.title for plot in plots.values())
    assert as_png(plots["idle"].figure).startswith(b"\x89PNG")


def test_files_with_nothing_to_draw_give_no_plot_and_no_error(tmp_path: Path) -> None:
    assert drawn(saved(tmp_path, not_ok("collective/all_reduce[num_bytes=8]", "failed", "it broke"))) == {}
    one_size = saved(tmp_path, measurement("collective/all_reduce[num_bytes=8]"), name="b")
    assert set(drawn(one_size)) == {"samples-1"}


def test_bandwidth_is_the_metric_s_and_lines_join_only_sizes(tmp_path: Path) -> None:
    plots = drawn(saved(tmp_path, *sweep(), measurement("collective/all_reduce[dtype=int8,num_bytes=4096]")))
    (axes,) = [a for a in plots["collective-bandwidth"].figure.axes if a.get_visible()]
    (line,) = [line for line in axes.lines if line.get_marker() not in (None, "None", "_", "|")]
    assert list(line.get_xdata()) == [1024.0, 4096.0, 16384.0]
    assert list(line.get_ydata()) == pytest.approx([1e-3] * 3)


def test_a_comparison_is_a_forest_with_a_row_a_case(tmp_path: Path) -> None:
    base = saved(tmp_path, header(label="base"), *[r for n in range(3) for r in sweep(1 + 0.01 * n, n)], name="a")
    new = saved(tmp_path, header(label="new"), *[r for n in range(3) for r in sweep(2 + 0.01 * n, n)], name="b")
    plot = drawn(base, new)["changes-0"]
    assert plot.title == "new against base"
    assert len(plot.figure.axes[0].get_yticks()) == 3
    assert "time: new / base" in texts(plot)


def test_a_history_needs_three_files(tmp_path: Path) -> None:
    files = [
        saved(tmp_path, header(label=f"r{n}", started=f"2026-01-0{n + 1}T00:00:00.000+00:00"), *sweep(), name=str(n))
        for n in range(3)
    ]
    assert "history-1" not in drawn(*files[:2])
    assert "over 3 runs" in drawn(*files)["history-1"].title


def test_tables_of_pairs_parts_and_series_are_drawn(tmp_path: Path) -> None:
    pairs = {"columns": ["rank", "GB/s 0", "GB/s 1"], "rows": [[0, None, 1.5], [1, 1.25, None]]}
    parts = {"columns": ["rank", "forward ms", "step ms"], "rows": [[0, 1.0, 3.0], [1, 2.0, 3.0]]}
    series = {"columns": ["until s", "call ms", "why"], "rows": [[0.0, 2.0, "a"], [1.0, 1.9, None]]}
    record = measurement("soak/run", tables={"pairs": pairs, "parts": parts, "series": series})
    plots = drawn(saved(tmp_path, record))
    assert {"pairs-1", "parts-1", "series-1"} <= set(plots)
    assert {"1.5", "1.25", "to rank"} <= set(texts(plots["pairs-1"]))
    assert "forward" in texts(plots["parts-1"])
    assert "step" not in texts(plots["parts-1"])  # the whole is no part of itself
    assert "call ms" in texts(plots["series-1"])


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    evil = "</svg><script>alert(1)</script>$\\frac{1}{0}$"
    plots = drawn(saved(tmp_path, header(label=evil), *sweep()), saved(tmp_path, *sweep(), name="b"))
    for plot in plots.values():
        svg = as_svg(plot.figure, plot.name)
        ET.fromstring(svg)
        assert "<script" not in svg


def test_drawings_of_a_page_take_its_colours_and_keep_their_ids_apart(tmp_path: Path) -> None:
    plots = drawn(load(REFERENCE[0]))
    svg = {name: as_svg(plot.figure, name) for name, plot in plots.items()}
    for colour in VARIABLES:
        assert all(colour not in text for text in svg.values())
    ids = [one for text in svg.values() for one in re.findall(r'\bid="([^"]+)"', text)]
    assert len(ids) == len(set(ids))


def test_families_differ_in_one_parameter_and_labels_name_what_differs() -> None:
    rows = [
        {"suite": "s", "params": {"op": "a", "num_bytes": n, "dtype": d}} for d in ("f", "b") for n in (4, 1)
    ]  # fmt: skip
    assert [[row["params"]["num_bytes"] for row in one] for one in families(rows, "num_bytes")] == [[1, 4], [1, 4]]
    assert labels(rows[:2]) == ["a num_bytes=4", "a num_bytes=1"]


@pytest.mark.parametrize(("num_bytes", "text"), [(1, "1 B"), (1024, "1 KiB"), (3 * 2**20, "3 MiB"), (2**31, "2 GiB")])
def test_sizes_are_binary(num_bytes: int, text: str) -> None:
    assert binary(num_bytes) == text


def test_long_names_lose_their_middle() -> None:
    assert shorten("x" * 100, 11) == "xxxxx…xxxxx"
    assert MILLISECOND
    assert end()
