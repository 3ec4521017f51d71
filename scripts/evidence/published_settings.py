"""What the sources of published runs say beside their tables: software, network, and what a row leaves open.

Never a figure that was fitted. A row's own columns come first; what neither they nor STATED say is what the predictor
itself finds fastest within memory (`published`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.errors import BenchError


@dataclass(frozen=True)
class Setting:
    """Software and network; `pattern` is searched in source, model, recompute and notes. NICs: Gbit/s a device."""

    pattern: str
    stack: str
    nic_gbit: float | None = None
    note: str = ""
    link_gb_per_s: float | None = None


# The first that fits.
SETTINGS: tuple[Setting, ...] = (
    Setting(
        r"vTrain", "megatron-deepspeed", 100, "config/validation/*.json: 800 Gb/s a node, 150 GB/s reached inside", 190
    ),
    Setting(r"cases_jan2021", "megatron-2020", 200, "Selene; before arXiv 2104.04473"),
    Setting(
        r"images/(cases|tables)", "megatron", 200, "Selene: eight 200 Gb/s HCAs a node (arXiv 2104.04473, section 5)"
    ),
    Setting(r"MT-NLG 530B", "megatron-deepspeed", 200, "Selene; DeepSpeed's pipeline engine (arXiv 2201.11990)"),
    Setting(r"2205.05198.*selective", "megatron-sp", 200, "Selene"),
    Setting(r"2205.05198", "megatron", 200, "Selene"),
    Setting(r"Zero Bubble", "megatron", 200, "RoCE; rate not stated, 200 assumed"),
    Setting(r"MegaScale.*(\(MegaScale\)|\+efficient|\+misc|\+LAMB)", "megascale", 200, "200 Gb/s a GPU (section 4.1)"),
    Setting(r"MegaScale.*(\(Megatron-LM\)|175B baseline)", "megatron-sp", 200, "200 Gb/s a GPU"),
    Setting(r"stas00|BLOOM", "megatron", 100, "four 100 Gb/s a node of eight: from memory"),
    Setting(r"model_table|strong scaling|Nemotron-4", "megatron-core", 400, "DGX H100: eight 400 Gb/s"),
    Setting(
        r"Llama 3 Herd",
        "torchtitan",
        400,
        "eight 400 Gb/s a node; Meta's own FSDP, tensor and pipeline parallelism "
        "of PyTorch (section 3.3.2), of which torchtitan is the open one",
    ),
    Setting(r"Megatron-Bridge", "nemo", 400, "the page gives none; DGX H100, B200 and GB200: 400 a GPU"),
    Setting(r"fms-fsdp", "fsdp", 100, "not stated; 100 assumed"),
    Setting(r"A100 80GB with 1600|A100 40GB with 1600", "fsdp", 200, "1600 Gbps a node"),
    Setting(r"llm-foundry.*H100", "fsdp", 400, "3200 Gbps RoCE a node"),
    Setting(r"torchtitan.*A100-SXM", "torchtitan", 200, "not stated; 200 assumed"),
    # The loss is compiled from April 2025 on (torchtitan, pull request 1033), and was not in December 2024 (755).
    Setting(r"(_h100_2025-06|149990).*(AsyncTP|async TP)", "torchtitan-2025-async", 400, "400 Gb/s a GPU"),
    Setting(r"_h100_2025-06|149990|_h200_202506", "torchtitan-2025", 400, "400 Gb/s a GPU"),
    Setting(r"torchtitan.*(AsyncTP|async TP)", "torchtitan-async", 400, "400 Gb/s a GPU"),
    Setting(r"torchtitan.*(compile|2D|[Ff]loat8|vanilla)", "torchtitan-compile", 400, "400 Gb/s a GPU"),
    Setting(r"torchtitan", "torchtitan", 400, "400 Gb/s a GPU"),
)


@dataclass(frozen=True)
class Stated:
    """What every row that `pattern` fits has in common, where its own columns say nothing of it."""

    pattern: str
    source: str
    recompute: str | None = None
    interleave: int | None = None
    micro_batch: int | None = None
    microbatches_per_stage: int | None = None
    """Microbatches of a step over pipeline ranks."""
    tensor_first: int | None = None
    """Of the product of tensor and pipeline sizes, tensor parallelism takes all up to this many."""


STATED: tuple[Stated, ...] = (
    Stated(
        r"cases_jan2021",
        "arXiv 2104.04473, section 5.4.1: tensor parallelism up to the devices of a node, then pipelines; it brought "
        "interleaving too, in April",
        interleave=1,
        tensor_first=8,
    ),
    Stated(r"MT-NLG 530B", "deepspeedai/DeepSpeed, issues 1110 and 4035: its pipelines never interleave", interleave=1),
    Stated(
        r"Llama 3 Herd",
        "arXiv 2407.21783, section 3.3.2: at 8K tokens without activation checkpointing; one layer fewer on the first "
        "and the last of 16 ranks, whose ends have a stage of their own: 126 + 2 = 16 x 8 stages of one layer",
        recompute="none",
        interleave=8,
        micro_batch=1,
    ),
    Stated(
        r"Megatron-Bridge",
        "scripts/performance/configs there: recompute_granularity None in every configuration of these rows",
        recompute="none",
    ),
    Stated(
        r"torchtitan.*Interleaved1F1B",
        "torchtitan, parallelisms/pipelining_utils.py: two stages a rank, microbatches as many as pipeline ranks",
        interleave=2,
        microbatches_per_stage=1,
    ),
    Stated(
        r"torchtitan.*1F1B",
        "torchtitan, parallelisms/pipelining_utils.py: microbatches as many as pipeline ranks",
        interleave=1,
        microbatches_per_stage=1,
    ),
)


def text_of(row: dict[str, str]) -> str:
    return " ".join((row["source"], row["model"], row["gpu"], row["recompute"], row["precision"], row["notes"]))


def setting_of(row: dict[str, str]) -> Setting:
    """Raises BenchError where the software is none that the predictor has constants of."""
    text = text_of(row)
    for setting in SETTINGS:
        if re.search(setting.pattern, text):
            return setting
    raise BenchError("the software is not one of the stacks")


def stated_of(row: dict[str, str]) -> Stated:
    """The first that fits, or nothing."""
    text = text_of(row)
    return next((each for each in STATED if re.search(each.pattern, text)), Stated("", ""))
