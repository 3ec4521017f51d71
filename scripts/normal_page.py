"""Text of the page on what is normal, bench/docs/normal.md: data sheets, figures of others, and our own GPUs.

`scripts/write_docs.py` writes it. No figure stands in this file: all are of `bench/catalog/data` and `results/gpu`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.catalog.accelerators import catalogue
from bench.catalog.expectations import expectation
from bench.catalog.questions import ENOUGH, MARGIN, MAX_WIDTH, Question, question_of
from bench.catalog.reference import COPY_LOOP, LARGE, NCCL_LOOP, ReferenceNumber, reference_numbers, vendor
from bench.core.values import MISSING, show_number
from bench.records.file import load_many
from bench.records.rows import Row as CaseRow
from bench.records.rows import case_rows

ROOT = Path(__file__).resolve().parent.parent
GPU = ROOT / "results" / "gpu"
OURS = {"H100-SXM-80GB": ("h100", "H100"), "H200-SXM-141GB": ("h200", "H200")}
"""Accelerator of the catalogue -> folder of our results of it, and its short name."""
WIDTH = 120

Entry = ReferenceNumber


def _always(entry: Entry) -> bool:
    return True


def _says(*patterns: str) -> Callable[[Entry], bool]:
    """True if the conditions hold each of the patterns."""
    return lambda entry: all(re.search(pattern, entry.conditions) for pattern in patterns)


def _is_of(**fields: int) -> Callable[[Entry], bool]:
    """True if the fields of a figure have these values."""
    return lambda entry: all(getattr(entry, name) == value for name, value in fields.items())


@dataclass(frozen=True)
class Figure:
    """A row for each accelerator: figures of one kind under like conditions."""

    title: str
    kind: str
    holds: Callable[[Entry], bool] = _always
    devices: int = 1
    case: str = ""
    """Our case that measures the same."""
    metric: str = "tflop_per_s"


_PRODUCT = "compute/matmul[{}shape=square,size=8192]"
DEVICE = (
    Figure("bf16 product of 8192³", "matmul_bf16", case=_PRODUCT.format("dtype=bfloat16,")),
    Figure("bf16 product, best shape", "matmul_bf16_mamf"),
    Figure("fp16 product of 8192³", "matmul_fp16", _is_of(size=8192), case=_PRODUCT.format("dtype=float16,")),
    Figure("fp8 product of 8192³", "matmul_fp8", _is_of(size=8192), case=_PRODUCT.format("dtype=float8_e4m3fn,")),
    Figure("fp8 product, best shape", "matmul_fp8_mamf"),
    Figure("memory copy", "memory_copy", case="compute/copy[num_bytes=4294967296]", metric="membw_gb_per_s"),
    Figure("memory triad", "memory_triad", case="compute/triad[num_bytes=4294967296]", metric="membw_gb_per_s"),
    Figure("copy GPU to host", "d2h_copy"),
)
LINKS = (
    Figure("all-reduce, 8 GPUs, 16 MiB", "all_reduce_busbw", _is_of(num_nodes=1, num_bytes=16 << 20), 8),
    Figure("all-reduce, 8 GPUs, 256 MiB", "all_reduce_busbw", _is_of(num_nodes=1, num_bytes=256 << 20), 8),
    Figure("all-reduce, 2 nodes, 8 GiB and more", "all_reduce_busbw", _is_of(num_nodes=2, num_bytes=LARGE), 16),
    Figure("all-reduce, 4 nodes, 8 GiB and more", "all_reduce_busbw", _is_of(num_nodes=4, num_bytes=LARGE), 32),
    Figure(
        "all-reduce, 72 GPUs of a rack, 8 GiB and more", "all_reduce_busbw", _is_of(num_nodes=18, num_bytes=LARGE), 72
    ),
)
TRAINING = (
    Figure("Llama 3 8B, bf16, 8 GPUs", "training_tokens_per_s_per_device", _says("^Llama3.1-8B", "bf16"), 8),
    Figure("MLPerf Llama 3.1 8B, 8 GPUs", "training_tokens_per_s_per_device", _says("MLPerf.*llama31_8b"), 8),
    Figure("MLPerf Llama 3.1 8B, 64 GPUs", "training_tokens_per_s_per_device", _says("MLPerf.*llama31_8b"), 64),
    Figure("MLPerf Llama 3.1 405B, 512 GPUs", "training_tokens_per_s_per_device", _says("MLPerf.*_405b"), 512),
)
TIMES = (
    Figure("MLPerf Llama 3.1 8B, 8 GPUs", "time_to_train_llama31_8b", devices=8),
    Figure("MLPerf Llama 2 70B LoRA, 8 GPUs", "time_to_train_llama2_70b_lora", devices=8),
    Figure("MLPerf Llama 2 70B LoRA, 16 GPUs", "time_to_train_llama2_70b_lora", devices=16),
)
OWN = (
    ("float32 product of 8192³ (no TF32), TFLOP/s", _PRODUCT.format(""), "tflop_per_s", 1.0),
    ("training step of llama3-1b, tokens/s", "training_step/run[batch=4,dtype=bfloat16", "tokens_per_s", 1.0),
    ("the same, MFU, %", "training_step/run[batch=4,dtype=bfloat16", "mfu", 100.0),
    ("the same with torch.compile, tokens/s", "training_step/run[batch=4,compile=true", "tokens_per_s", 1.0),
    ("the same, MFU, %", "training_step/run[batch=4,compile=true", "mfu", 100.0),
    ("prefill of llama3-8b, 2,048 tokens, tokens/s", "inference/prefill", "tokens_per_s", 1.0),
)
"""Title, beginning of the case's id, metric and factor."""

HEAD = """
Which figures do others reach on the accelerator that you have? This page has the peaks of data sheets, figures
that others published, and our own measurements on one H100 and one H200. `bench show` sets
the ranges of the next section next to your figures. They advise: no exit code depends on them without `--expect`."""
EXPECTED = """
A range needs three independent sources of one kind of loop: nccl-tests, a loop in torch, or copy engines. It reaches
{margin:.0%} beyond their figures and is at most {width:.0%} wide, or there is none. All pages of one vendor are one
source. Fewer sources are shown without a range, and `-` is unknown. `rule` marks a kind of figure without published
ones: its range is the share of a line rate that published figures reach elsewhere. The key of a range is the
accelerator, the number of ranks and nodes, the network, the size and the kind of loop. The place of the reduction is
part of it, too: the NVLink switch, the network or the GPUs. Collectives below 16 MiB are not compared. From 16 to 256
MiB a figure is compared with loops of its own kind only, from 256 MiB on with any one kind. Across nodes a range
needs the rate of the NICs: files of `bench` do not have it yet, and say `unknown`. [JSON](reading.md) has
`expected_low` and `expected_high`."""
BESIDE = """
All-reduce: bus bandwidth of 8 GPUs of one node, 8 GiB and more, and 1 GiB. Copies: one direction. All in GB/s. Copies
host to GPU of other cards: {pcie}. Over the network, 4 nodes of 8 GPUs with 8 x 400 Gbit/s each, 8 GiB and more,
without reduction in the network: {network}."""
PUBLISHED = """
A source is one publisher: a vendor with all its pages and its MLPerf submissions, the owner of a repository, or one
thread of an issue tracker. From three sources on, a row has the lowest and the highest figure. A row that begins with
`1 source` or `2 sources` rests on too few sources for a range. Left out are figures that a source calls degraded or
odd, figures read from plots, figures of low confidence, and nodes that must not reduce in their NVLink switch.
Conditions differ between the sources: NCCL, driver, cloud, batch. Every figure with its conditions and source is a
row of `bench/catalog/data/reference_numbers.csv` ({rows:,} rows). The file also has limits that other test suites
demand (`floor_...`, `expected_...`); this page leaves them out."""


def page() -> str:
    entries = [entry for entry in reference_numbers() if entry.is_healthy and _is_default(entry)]
    parts = [
        "# What is normal",
        HEAD,
        "Written by `scripts/write_docs.py` from `bench/catalog/data` and `results/gpu`; do not edit it.",
        *_example(),
        "## Data sheets",
        "Dense rates, without sparsity; most vendors headline twice as much. Links: GB/s per GPU in one direction "
        "within a node or rack, and Gbit/s per GPU across nodes. The source of every figure is in its row of "
        "`bench/catalog/data/accelerators.csv`. `bench` computes MFU from these peaks. `-`: the vendor does not say.",
        "\n".join(_sheets()),
        "## What to expect",
        EXPECTED.format(margin=MARGIN, width=MAX_WIDTH),
        "\n".join(_expectations()),
        BESIDE.format(pcie=_over_pcie(), network=_over_network()),
        "## Published figures",
        PUBLISHED.format(rows=len(reference_numbers())),
        "### One accelerator",
        "TFLOP/s for products, GB/s for memory and copies. Copy and triad count what is read and written.",
        "\n".join(_table(DEVICE, entries, "")),
        "### All-reduce",
        "Bus bandwidth in GB/s, as nccl-tests counts it. Nodes of 8 GPUs; across nodes the network decides.",
        "\n".join(_table(LINKS, entries, "GB/s")),
        "### Training",
        "Tokens/s per GPU. MLPerf submissions choose their own precision (FP8, FP4) and batch.",
        "\n".join(_table(TRAINING, entries, "")),
        "Minutes to train to MLPerf's target quality, closed division; lower is better.",
        "\n".join(_table(TIMES, entries, "")),
        "## Ours without a published counterpart",
        "\n".join(_own()),
        "One card of each, once, in virtual machines. [limits.md](limits.md) says which figures of these files are "
        "wrong. A published figure near the training step: MPT-1b on 8 H100, 38,535 tokens/s per GPU, MFU 40.3% "
        "(mosaicml/llm-foundry, scripts/train/benchmarking/README.md).",
        "## Sources",
        "\n".join(f"- {line}" for line in _sources(entries)),
    ]
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _example() -> Iterator[str]:
    command = ["show", (GPU / "h100" / "h100-kernels.jsonl").relative_to(ROOT).as_posix()]
    lines = output_lines(command)
    begin = next(number for number, line in enumerate(lines) if line.startswith("Ceiling"))
    shown = [lines[0], "...", *lines[begin : lines.index("", begin)], "..."]
    yield "`bench show` begins with the share of the data sheet that your own machine reaches:"
    yield "\n".join([f"<!-- output: bench {' '.join(command)} -->", "```", *shown, "```"])


def output_lines(arguments: list[str]) -> list[str]:
    """Lines that a command of ours prints when it is run in the repository's root."""
    from bench.cli import call

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.chdir(ROOT):
        call(arguments)
    return out.getvalue().splitlines()


ASKED = (
    ("all-reduce, 8 GiB", "all_reduce_busbw", 8, NCCL_LOOP, LARGE),
    ("all-reduce, 1 GiB", "all_reduce_busbw", 8, NCCL_LOOP, 1 << 30),
    ("copy host to GPU", "h2d_copy", 1, COPY_LOOP, None),
    ("copy GPU to GPU", "p2p_copy", 2, COPY_LOOP, None),
    ("memory copy", "memory_copy", 1, COPY_LOOP, None),
)
"""Column, kind of figures, ranks, loop and bytes."""


def _expectations() -> Iterator[str]:
    """A row for each accelerator of which anything is known."""
    yield "| accelerator | " + " | ".join(title for title, *_ in ASKED) + " |"
    yield "| --- |" + " --- |" * len(ASKED)
    for row in catalogue():
        found = [
            expectation(Question(kind, row.name, ranks, 1, loop, num_bytes))
            for _, kind, ranks, loop, num_bytes in ASKED
        ]
        if any(answer for answer, (_, kind, *_) in zip(found, ASKED, strict=True) if kind != "h2d_copy"):
            cells = (MISSING if answer is None else answer.text().removeprefix("expected ") for answer in found)
            yield f"| {row.name} | " + " | ".join(cells) + " |"


def _over_pcie() -> str:
    """Ranges of cards that the table leaves out."""
    cards = (("PCIe 4", "A100-PCIe-80GB"), ("PCIe 5", "H100-PCIe-80GB"))
    found = [(name, expectation(Question("h2d_copy", card, 1, 1, COPY_LOOP))) for name, card in cards]
    return ", ".join(f"{name} x16 {answer.text()}" for name, answer in found if answer is not None)


def _over_network() -> str:
    found = expectation(
        Question("all_reduce_busbw", "H100-SXM-80GB", 32, 4, NCCL_LOOP, LARGE, None, None, "InfiniBand", 3200.0)
    )
    return MISSING if found is None else found.text()


def _is_default(entry: Entry) -> bool:
    """False for a node on which the NVLink switch was told not to add."""
    asked = question_of(entry)
    return entry.num_nodes != 1 or asked.reduces_in == replace(asked, reduction=None).reduces_in


def _sheets() -> Iterator[str]:
    yield "| accelerator | bf16 TFLOP/s | fp8 TFLOP/s | memory GB | memory TB/s | link GB/s | NIC Gbit/s | power W |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in catalogue():
        cells = (
            row.bf16_dense_tflop_per_s,
            row.fp8_dense_tflop_per_s,
            row.memory_gb,
            row.memory_tb_per_s,
            row.scaleup_one_way_gb_per_s,
            row.scaleout_nic_gbit_per_s,
            row.power_watts,
        )
        yield f"| {row.name} | " + " | ".join(MISSING if cell is None else f"{cell:,.10g}" for cell in cells) + " |"


@dataclass
class Found:
    """Published figures of one row of the table."""

    values: list[float] = field(default_factory=list)
    publishers: set[str] = field(default_factory=set)

    def text(self) -> str:
        if not self.values:
            return MISSING
        low, high = (show_number(value) for value in (min(self.values), max(self.values)))
        span = low if low == high else f"{low} to {high}"
        count = len(self.publishers)
        if count >= ENOUGH:
            return f"{span} ({count} sources)"
        return f"{count} source{'s' if count > 1 else ''}: {span}"


def _table(figures: Sequence[Figure], entries: Sequence[Entry], unit: str) -> Iterator[str]:
    has_ours = any(figure.case for figure in figures)
    heads = ["figure", "accelerator", f"published{', ' if unit else ''}{unit}"] + ["ours"] * has_ours
    yield "| " + " | ".join(heads) + " |"
    yield "| --- | --- | ---:" + " | ---:" * has_ours + " |"
    for figure in figures:
        for hardware, found in _found(figure, entries).items():
            cells = [figure.title, hardware, found.text()]
            if has_ours:
                cells.append(show_number(_ours(hardware, figure.case, figure.metric)) if figure.case else MISSING)
            yield "| " + " | ".join(cells) + " |"


def _found(figure: Figure, entries: Sequence[Entry]) -> dict[str, Found]:
    """Accelerator -> its published figures; none of an accelerator of which only ours is known."""
    rows = {hardware: Found() for hardware in OURS if figure.case}
    for entry in entries:
        if entry.kind == figure.kind and entry.num_ranks == figure.devices and figure.holds(entry):
            row = rows.setdefault(entry.accelerator, Found())
            row.values.append(entry.value)
            row.publishers.add(vendor(entry))
    return dict(sorted(rows.items()))


def _ours(hardware: str, case: str, metric: str) -> float | None:
    """Our figure of the first case whose id begins so; None without one."""
    if hardware not in OURS or not case:
        return None
    found = (row for row in _our_rows(hardware) if str(row["case"]).startswith(case))
    value = next(found, {}).get(metric)
    return float(value) if isinstance(value, int | float) else None


@functools.cache
def _our_rows(hardware: str) -> list[CaseRow]:
    folder, _ = OURS[hardware]
    return [
        row for kind in ("kernels", "steps") for row in case_rows(load_many([GPU / folder / f"{folder}-{kind}.jsonl"]))
    ]


def _own() -> Iterator[str]:
    yield "| measured by us | " + " | ".join(short for _, short in OURS.values()) + " |"
    yield "| --- |" + " ---: |" * len(OURS)
    for title, case, metric, factor in OWN:
        values = [_ours(hardware, case, metric) for hardware in OURS]
        yield f"| {title} | " + " | ".join(show_number(value and factor * value) for value in values) + " |"


def _sources(entries: Sequence[Entry]) -> Iterator[str]:
    """Publishers of the figures above, each with its pages."""
    pages: dict[str, set[str]] = {}
    for figure in (*DEVICE, *LINKS, *TRAINING, *TIMES):
        for entry in entries:
            if entry.kind == figure.kind and entry.num_ranks == figure.devices and figure.holds(entry):
                pages.setdefault(entry.publisher, set()).add(entry.source)
    submitters = sorted(name.partition(", ")[2] for name in pages if name.startswith("MLPerf"))
    threads = sorted(name for name in pages if "#" in name)
    for name, own in sorted(pages.items(), key=lambda item: item[0].lower()):
        if not name.startswith("MLPerf") and name not in threads:
            yield "; ".join(sorted(own))
    yield f"Threads: {', '.join(threads)}"
    yield f"mlcommons/training_results_v5.0 and v5.1, submissions of {', '.join(submitters)}"


def _wrapped(part: str) -> str:
    if part.startswith(("|", "#", "```", "<!--")):
        return part
    if part.startswith("- "):
        return "\n".join(
            textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            for line in part.splitlines()
        )
    return textwrap.fill(" ".join(part.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
