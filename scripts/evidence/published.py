"""Published training runs as jobs, splits and devices that a prediction takes; what a source leaves open, by rule.

The rows are `results/evidence/data/published_training.csv.gz`, each with its source; `published_settings` has what the
sources say beside them. What nothing states (microbatch, interleaving, recomputation, parallel sizes) is what the
predictor itself finds fastest within memory: the same rule for every row.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from published_settings import setting_of, stated_of

from bench.errors import BenchError
from bench.parallelism.layout import Job
from bench.parallelism.shapes import ModelShape, find_model
from bench.predict.model.prediction import Prediction, TrainingStrategy
from bench.predict.model.step import Predictor
from bench.predict.rates import device as hardware
from bench.predict.rates.constants import Constants

DATA = Path(__file__).resolve().parents[2] / "results" / "evidence" / "data" / "published_training.csv.gz"


GPUS = {
    "A100-SXM": "A100-SXM-80GB",
    "A100-SXM (NVIDIA Ampere)": "A100-SXM-80GB",
    "A100-SXM-40GB (DGX-A100)": "A100-SXM-40GB",
    "H100-SXM-80GB 700W": "H100-SXM-80GB",
    "H100-SXM-96GB-HBM2e 500W": "H100-SXM-96GB",
    "H100": "H100-SXM-80GB",
    "B200": "B200-SXM-180GB",
    "B300": "B300-SXM-288GB",
    "GB200": "GB200-SXM (per GPU of NVL72)",
    "GB300": "GB300-SXM (per GPU of NVL72)",
}
PRECISIONS = {
    **dict.fromkeys(("bf16", "amp_bf16", "BF16", ""), "bf16"),
    "fp16": "fp16",
    **dict.fromkeys(("fp8", "FP8", "amp_fp8", "FP8-CS", "FP8-MX", "MXFP8", "fp8-tensorwise"), "fp8"),
    "fp8-rowwise": "fp8-rowwise",
}
RECOMPUTE = {
    **dict.fromkeys(("none",), "none"),
    "full": "full",
    "selective+seqpar": "selective",
    **dict.fromkeys(("selective", "selective-op", "selective-layer"), "half"),
}
SCHEDULES = (("schedule=ZB-2p", "zb2p"), ("schedule=ZB-1p", "zb1p"), ("schedule=1F1B-I", "interleaved"))
NAMED = (  # models of rows whose shape is not a plain GPT of four times the hidden size
    (r"Llama 3(\.1)? 8B|LLAMA3_8B", "llama3-8b"),
    (r"Llama 3(\.1)? 70B|LLAMA3_70B", "llama3-70b"),
    (r"Llama 3(\.1)? 405B|LLAMA3\.1_405B", "llama3-405b"),
    (r"Llama ?2 7B", "llama2-7b"),
    (r"Llama ?2 13B|LLaMA-13B", "llama2-13b"),
    (r"Llama ?2 70B", "llama2-70b"),
    (r"Nemotron-4-340B", "nemotron4-340b"),
    (r"^Qwen3_30B", "qwen3-30b-a3b"),
    (r"^Qwen3_235B", "qwen3-235b-a22b"),
)


@dataclass(frozen=True)
class Run:
    """One published run that can be predicted."""

    row: dict[str, str]
    job: Job
    device: hardware.Device
    devices: int
    stack: str
    splits: tuple[TrainingStrategy, ...]
    """One where everything is stated; else the alternatives of what is not."""
    seconds: float
    memory_bytes: float | None

    @property
    def source(self) -> str:
        return self.row["source"]


def rows(path: Path = DATA) -> list[dict[str, str]]:
    """Of a CSV file, compressed or not."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def runs(path: Path = DATA) -> tuple[list[Run], list[tuple[dict[str, str], str]]]:
    """Runs that can be predicted, and rows that cannot with the reason."""
    good: list[Run] = []
    left: list[tuple[dict[str, str], str]] = []
    for row in rows(path):
        try:
            good.append(_run(row))
        except BenchError as error:
            left.append((row, str(error)))
    return good, left


def _run(row: dict[str, str]) -> Run:
    notes = row["notes"]
    if "from memory" in notes or "digest" in row["source"] or "(memory)" in notes:
        raise BenchError("from memory: used for nothing")
    if "fine-tuning" in notes or "LoRA" in row["source"]:
        raise BenchError("fine-tuning, not pre-training")
    if "pathological" in notes:
        raise BenchError("the source calls it broken")
    if "parallel transformer" in row["model"] or re.search(r"\+(sliding|TP|PP|DP) ", row["model"]):
        raise BenchError("an ablation between two stacks")
    if "V100" in row["gpu"] or "TPU" in row["gpu"] or "MI250" in row["gpu"]:
        raise BenchError("the accelerator is not in the catalogue")
    if row["precision"] not in PRECISIONS:
        raise BenchError(f"no peak of precision {row['precision']} in the catalogue")
    if "tokendrop" in row["model"]:
        raise BenchError("tokens are dropped")
    shape = _shape(row)
    setting = setting_of(row)
    device = hardware.find(GPUS.get(row["gpu"], row["gpu"]), nic_gbit=setting.nic_gbit)
    if setting.link_gb_per_s is not None:
        device = replace(device, inside=hardware.Level(setting.link_gb_per_s * 1e9, 0.0, setting.note))
    if not row["n_gpus"] or not row["seq"] or not row["global_batch"]:
        raise BenchError("number of devices, sequence or batch not stated")
    shape = replace(shape, sequence=int(float(row["seq"])))
    job = Job(shape, int(float(row["global_batch"])), PRECISIONS[row["precision"]])
    devices = int(float(row["n_gpus"]))
    splits = tuple(_splits(row, job, devices))
    if not splits:
        raise BenchError("no split of the stated sizes is possible")
    return Run(row, job, device, devices, setting.stack, splits, _seconds(row, job, device, devices), _memory(notes))


def _shape(row: dict[str, str]) -> ModelShape:
    for pattern, name in NAMED:
        if re.search(pattern, row["model"]):
            return find_model(name)
    if not row["layers"]:
        raise BenchError("the shape of the model is not stated, or has parts that are not modelled")
    vocab = int(float(row["vocab"])) if row["vocab"] else 51200
    layers, hidden, heads = (int(float(row[column])) for column in ("layers", "hidden", "heads"))
    return ModelShape(
        name=row["model"],
        num_layers=layers,
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        ffn_hidden=4 * hidden,
        vocabulary=vocab,
        gated=False,
        tied=True,
    )


def _number(row: dict[str, str], column: str) -> int | None:
    return int(float(row[column])) if row[column] else None


def _splits(row: dict[str, str], job: Job, devices: int) -> Iterator[TrainingStrategy]:
    """Every one that the row and its source leave open."""
    notes, stated = row["notes"], stated_of(row)
    cp = _noted(notes, r"\bcp=(\d+)", r"CP (\d+)") or 1
    ep = _noted(notes, r"\bep=(\d+)") or 1
    model_parallel = _noted(notes, r"model-parallel size=(\d+)")
    schedule = next((name for mark, name in SCHEDULES if mark in notes), None)
    tp = _number(row, "tp")
    if tp is None and model_parallel is not None and stated.tensor_first:
        tp = min(model_parallel, stated.tensor_first)
    pp, interleave = _number(row, "pp"), _number(row, "interleave") or stated.interleave
    known = RECOMPUTE.get(row["recompute"], stated.recompute)
    recompute = [known] if known else ["none", "selective", "full"]
    tps = [tp] if tp else [1, 2, 4, 8]
    pps = [pp] if pp else [p for p in range(1, job.shape.num_layers + 1) if job.shape.num_layers % p == 0]
    for tp, pp, again in product(tps, pps, recompute):
        if (
            job.shape.num_heads % tp
            or devices % (tp * pp * cp)
            or (model_parallel is not None and tp * pp != model_parallel)
        ):
            continue
        dp = devices // (tp * pp * cp)
        micro_batch = _number(row, "micro_batch") or stated.micro_batch
        if micro_batch is None and stated.microbatches_per_stage:
            micro_batch = max(1, job.global_batch // (dp * pp * stated.microbatches_per_stage))
        if job.global_batch < dp and not micro_batch:
            continue
        interleaves = [interleave] if interleave else ([1] if pp == 1 else [1, 2, 3, 4, 6])
        for turns, size in product(interleaves, [micro_batch] if micro_batch else [1, 2, 4]):
            v = min(turns, -(-job.shape.num_layers // pp))
            if not interleave and turns != v:
                continue
            name = schedule or ("interleaved" if v > 1 else "1f1b")
            v = v if name == "interleaved" else 1
            yield TrainingStrategy(tp, pp, dp, cp, max(1, min(ep, tp * dp * cp)), size, v, name, again, _zero(row))


def _noted(notes: str, *patterns: str) -> int | None:
    found = (re.search(pattern, notes) for pattern in patterns)
    return next((int(match.group(1)) for match in found if match), None)


def _zero(row: dict[str, str]) -> int:
    text = row["source"] + row["notes"]
    if "SHARD_GRAD_OP" in text:
        return 2
    if (
        "llm-foundry" in text
        or "FSDP" in text
        or "fsdp" in row["source"]
        or re.search(r"fsdp=(\d\d)", text)
        or "torchtitan" in text
    ):
        return 3
    return (
        1
        if re.search(
            r"model_table|strong scaling|Herd|Nemotron|Bridge|\(MegaScale\)|\+(eff|misc|LAMB)", text + row["model"]
        )
        else 0
    )


def _seconds(row: dict[str, str], job: Job, device: hardware.Device, devices: int) -> float:
    """Of a step, from whatever the row has, most direct first; raises BenchError where it has nothing."""
    if row["step_time_s"]:
        return float(row["step_time_s"])
    if row["tokens_per_s_per_gpu"]:
        return job.tokens / (float(row["tokens_per_s_per_gpu"]) * devices)
    kind = m.group(1) if (m := re.search(r"flops_kind=(model-causal|model|hardware)", row["notes"])) else None
    if kind is None:
        raise BenchError("FLOP/s without the convention they are counted by")
    per_token = job.shape.step_flops_per_token("causal_half" if kind == "model-causal" else "full")
    if kind == "hardware":
        head = 6.0 * job.shape.embedding_parameters
        per_token = (per_token - head) * 4.0 / 3.0 + head
    if row["tflops_per_gpu"]:
        return per_token * job.tokens / (float(row["tflops_per_gpu"]) * 1e12 * devices)
    if row["mfu"]:
        return per_token * job.tokens / (float(row["mfu"]) * device.bf16_flops_per_s * devices)
    raise BenchError("no speed in the row")


def _memory(notes: str) -> float | None:
    if m := re.search(r"mem_GiB=([\d.]+)", notes):
        return float(m.group(1)) * 2**30
    if m := re.search(r"mem_GB=([\d.]+)", notes):
        return float(m.group(1)) * 2**30
    return None


def predicted(
    run: Run, constants: Constants, choice: TrainingStrategy | None = None, replay: bool = False
) -> Prediction:
    """The stated split; of alternatives the fastest that fits, or the leanest where none does."""
    predictor = Predictor(run.job, run.device, constants, run.stack)
    if choice is not None or len(run.splits) == 1:
        return predictor.predict(choice or run.splits[0], replay=replay)
    found: list[Prediction] = []
    for strategy in run.splits:
        try:
            found.append(predictor.predict(strategy, replay=False))
        except BenchError:
            continue
    fitting = [p for p in found if p.fits is not False]
    best = min(fitting, key=lambda p: p.step_seconds) if fitting else min(found, key=lambda p: p.memory.total)
    return predictor.predict(best.strategy, replay=replay)
