"""Style of every plot: one colour per machine, marks that tell sides apart without colour, SVG for light and dark.

A plot is drawn once, with ink, grid and series in fixed colours. For a page the SVG's colours become CSS variables, so
that one drawing serves a light and a dark page; text stays text. As PNG it has a white ground.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from bench.core.cell_text import clean, escape_controls

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GROUND = "#1b1f24", "#8a8f96", "#fefefe"
# Okabe and Ito's hues, darkened or lightened until text of that colour has a contrast of 4.5 : 1 on its ground
# (WCAG 2.1, 1.4.3); the tests compute it.
LIGHT = ("#0068a3", "#b84a00", "#00734f", "#9c4680", "#6b5b00", "#3d5a80", "#8f2d2d", "#4b4f9c", "#40683a", "#6d6875")
DARK = ("#6cbcf0", "#ff9f5c", "#3fcf9f", "#e79ccb", "#dcc84a", "#9fb8dd", "#f28b8b", "#a9adf5", "#93c98a", "#c4bdcb")
MARKERS = "os^Dv*PXh<"
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "oo", "++", "||", "**")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)), (0, (8, 2)))

VARIABLES = {INK: "--ink", FAINT: "--faint", GROUND: "--ground"} | {c: f"--s{n}" for n, c in enumerate(LIGHT)}
"""Colour in a drawing -> CSS variable on a page."""

_RC: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels come from files: a dollar sign is a dollar sign
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "hatch.color": GROUND,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
}


@dataclass(frozen=True)
class Look:
    """Look of one side in every plot."""

    name: str
    colour: str
    marker: str
    dash: Any
    hatch: str


def looks(names: Sequence[str], architectures: Sequence[str]) -> dict[str, Look]:
    """Side -> its look, in the order given: a colour, a mark and a dash of its own.

    If there are more sides than colours, those of one architecture share one.
    """
    owners = names if len(names) <= len(LIGHT) else architectures
    colours = dict(zip(dict.fromkeys(owners), cycle(LIGHT), strict=False))
    marks = zip(cycle(MARKERS), cycle(DASHES), cycle(HATCHES), strict=False)
    return {name: Look(name, colours[owner], *mark) for name, owner, mark in zip(names, owners, marks, strict=False)}


@contextmanager
def drawing() -> Iterator[None]:
    """Figures made and drawn within have the style; nothing outside is changed."""
    with _style():
        yield


@contextmanager
def _style(**more: Any) -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(_RC | more), warnings.catch_warnings():
        # Text stays text in an SVG, so that a reader's own fonts serve where the one that is measured lacks a sign.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        # All values may well be one and the same; the axis is widened then, as it should be.
        warnings.filterwarnings("ignore", "Attempting to set identical low and high", UserWarning)
        yield


def canvas(width: float = 7.2, height: float = 3.4, rows: int = 1, columns: int = 1, **more: Any) -> tuple[Figure, Any]:
    """A figure with its axes [row][column]; no pyplot, whose start costs a second and whose state is global."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def size_axis(axes: Axes, sizes: Sequence[float]) -> None:
    """Message sizes: powers of two, written in binary units; every second or fourth if there are many."""
    axes.set_xscale("log", base=2)
    low, high = min(sizes), max(sizes)
    first, last = max(0, int(low).bit_length() - 1), int(high).bit_length()
    step = 2 if last - first <= 10 else 4 if last - first <= 20 else 6
    ticks = [2**power for power in range(first, last + 1, step)]
    axes.set_xticks([float(tick) for tick in ticks], [binary(tick) for tick in ticks])
    axes.minorticks_off()


def binary(num_bytes: float) -> str:
    """`64 MiB`."""
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if num_bytes >= scale:
            return f"{num_bytes / scale:g} {unit}"
    return f"{num_bytes:g} B"


def plain_log(axis: Any) -> None:
    """Plain numbers on a logarithmic axis, 0.01 rather than a power of ten; 1, 2 and 5 if it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_data_interval()
    if low > 0 and high < 100 * low:
        axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if high > 4 * low else tuple(range(1, 10))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def shorten(text: str, length: int = 44) -> str:
    """Any text of a file, as a label: no control characters, and the middle of a long one gives way.

    The page's tables have it whole.
    """
    text = clean(text)
    text = f" {text}" if text.startswith("_") else text  # a legend leaves labels out that begin so
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def as_svg(figure: Figure, name: str, on_page: bool = True) -> str:
    """The figure as SVG text; `on_page`: in CSS variables, without the XML head. `name` keeps its ids apart."""
    buffer = io.StringIO()
    ground = {"transparent": True} if on_page else {"facecolor": "white"}
    with _style(**{"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, dpi=130, **ground)
    text = escape_controls(buffer.getvalue())  # matplotlib escapes what XML has for its own, and nothing else
    if not on_page:
        return text
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 width="{96 * figure.get_figwidth():.0f}"', text, count=1)
    text = re.sub(r"(?<=[\s:;\"'])(\d+\.\d\d)\d+", r"\1", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # Two figures may hold like marks and clips, under like ids.
    return re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)


def as_png(figure: Figure, dpi: int = 150) -> bytes:
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()
