"""The steps: what each runs, and what is expected of it. Each runs in a process of its own, see `device.__main__`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device import bare, broken
from device.findings import Record, expect, judge, measurements, median_seconds, note, records, statuses

PYTHON = (sys.executable, "-P", "-m")
BENCH = (*PYTHON, "bench")


@dataclass(frozen=True)
class Place:
    """Where a check runs and keeps its files."""

    device: str
    folder: Path
    """Holds `r/STEP/*.jsonl`: the result files of each step."""

    def results(self, step: str) -> Path:
        return self.folder / "r" / step

    def run(self, step: str, *arguments: str, launches: int | None = 1) -> int:
        """`bench run` on one rank, into the step's folder; its exit code."""
        options = ["--device", self.device, "--ranks", "1", "-o", str(self.results(step))]
        options += [] if launches is None else ["--launches", str(launches)]
        return call(*BENCH, "run", *arguments, *options)

    @property
    def is_cuda(self) -> bool:
        return self.device == "cuda"


@dataclass(frozen=True)
class Step:
    """A part of the check: about what it takes on a GPU, the most it may take, and the groups that have it."""

    run: Callable[[Place], None]
    seconds: int
    groups: str
    only_cuda: bool = False


@dataclass(frozen=True)
class Card:
    """What a kind of GPU is known to reach, as ranges: measured dense products and copies."""

    tflop_per_s: dict[str, tuple[float, float]]
    """Of products of 8192, by type."""
    copy_gb_per_s: tuple[float, float]
    watts: tuple[float, float]


_HOPPER = {"bfloat16": (650, 830), "float16": (650, 830), "float32": (40, 67), "float8_e4m3fn": (1100, 1700)}
CARDS = {
    "H100": Card(_HOPPER, (2600, 3350), (250, 720)),
    "H200": Card(_HOPPER, (3900, 4800), (250, 720)),
}
"""By what the card's name holds: the first that fits. Products reach at most 80% of the data sheet's dense peak under
the power cap of 700 W, copies 80 to 95% of its memory bandwidth."""


def call(*command: str, **variables: str) -> int:
    """A command with this process's output; its exit code."""
    return subprocess.run(command, check=False, env={**os.environ, **variables}).returncode


def card() -> Card | None:
    import torch

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    return next((row for part, row in CARDS.items() if part in name), None)


def versions(place: Place) -> None:
    if place.is_cuda:
        call("nvidia-smi")
    expect("bench --version", call(*BENCH, "--version"), 0)


def doctor(place: Place) -> None:
    expect("doctor's exit code", call(*BENCH, "doctor"), 0)


WHOLE_STEP = "training_step/run[batch=4,{}dtype=bfloat16,num_microbatches=4,pp=1,shape=llama3-1b,tp=1]"
SERVED = "inference/{}[batch={},dtype=bfloat16,model=llama3-8b,num_layers=32,parallel=replicas,sequence=2048]"
ARCH_CASES = (
    WHOLE_STEP.format(""),
    WHOLE_STEP.format("compile=true,"),
    SERVED.format("decode", 1),
    SERVED.format("prefill", 1),
    SERVED.format("decode", 32),
)
"""Of the default run on one GPU, what says most of a kind of card beside its kernels."""


def parent(place: Place) -> None:
    """The process that only plans and supervises must take nothing of a GPU: its rank may be the only one allowed."""
    import torch

    from bench.measure.launchers.place import Place as RankPlace
    from bench.measure.planning.options import RunOptions
    from bench.measure.planning.planner import new_plan

    new_plan(RunOptions(preset="smoke"), "cuda", RankPlace(0, 1, 0, 1), None)
    expect("CUDA context after planning", torch._C._cuda_hasPrimaryContext(0), False)


def arch(place: Place) -> None:
    """Kernels, a whole training step and serving, in two launches: files that two kinds of card can be compared by."""
    launches = 2 if place.is_cuda else 1
    if place.is_cuda:
        cases = [word for case in ARCH_CASES for word in ("--case", case)]
        runs = {"kernels": ["compute", "--budget", "90s"], "steps": [*cases, "--budget", "200s"]}
    else:
        smoke = ["--preset", "smoke", "--budget", "20s"]
        runs = {"kernels": [*smoke, "compute"], "steps": [*smoke, "training_step", "inference"]}
    for label, arguments in runs.items():
        code = place.run("arch", *arguments, "--label", label, "--visits", "1", launches=launches)
        expect(f"exit code of {label}", code, 0)
    statuses(place.results("arch"))
    for record in measurements(place.results("arch")):
        if record["suite"] == "training_step" and record["status"] == "ok":
            _tell_step(record)


def _tell_step(record: Record) -> None:
    work, seconds = record["work"], median_seconds(record)
    rates = f"{work['tokens'] / seconds:,.0f} tokens/s, {work['flops'] / seconds / 1e12:.4g} TFLOP/s"
    note("INFO", record["case"], f"{seconds:.4g} s, {rates}; {'; '.join(record['notes'])}")


def one_rank(place: Place) -> None:
    expect("exit code", call(*PYTHON, "device.one_rank", place.device), 0)


def compute(place: Place) -> None:
    kind, short = place.device, "dtype=bfloat16," if place.is_cuda else ""
    big, small, copied = bare.BIG[kind], bare.SMALL[kind], bare.COPY_BYTES[kind]
    ids = [
        f"matmul[{short}shape=square,size={big}]",
        f"matmul[{short}shape=square,size={small}]",
        f"copy[num_bytes={copied}]",
        f"triad[num_bytes={copied}]",
    ]
    if place.is_cuda:
        ids += [
            f"matmul[dtype=float8_e4m3fn,shape=square,size={big}]",
            f"matmul[shape=square,size={big}]",
            f"matmul[dtype=bfloat16,l2=cold,shape=square,size={small}]",
        ]
    cases = [word for each in ids for word in ("--case", f"compute/{each}")]
    expect("exit code", place.run("compute", *cases, "--visits", "1", "--budget", "60s"), 0)


def harness(place: Place) -> None:
    """The product against bare torch, sample by sample."""
    expect("exit code", call(*PYTHON, "device.harness", place.device), 0)


def compare(place: Place) -> None:
    """The measured kernels against what the card is known to reach."""
    known = card()
    found = [record for step in ("compute", "arch") for record in measurements(place.results(step))]
    kernels = [record for record in found if record["suite"] == "compute" and record["status"] == "ok"]
    if not kernels:
        note("FAIL", "measured kernels", "none")
    for record in kernels:
        _against_card(record, known)


def _against_card(record: Record, known: Card | None) -> None:
    params, work, seconds = record["params"], record["work"], median_seconds(record)
    if work.get("flops"):
        rate, unit = work["flops"] / seconds / 1e12, "TFLOP/s"
        is_known = known is not None and params["shape"] == "square" and params["size"] == bare.BIG["cuda"]
        limits = known.tflop_per_s.get(params["dtype"]) if known is not None and is_known else None
    else:
        rate, unit = work["memory_traffic_bytes"] / seconds / 1e9, "GB/s"
        limits = known.copy_gb_per_s if known is not None and params["num_bytes"] >= 2**30 else None
    if limits is None:
        note("INFO", record["case"], f"{rate:.4g} {unit}")
    else:
        judge(record["case"], rate, *limits, unit)
    energy = record.get("energy") or {}
    if known is not None and energy.get("joules"):
        judge(f"{record['case']} power", _watts(energy), *known.watts, "W")
    ranks = (record.get("disturbance") or {}).get("ranks") or [{}]
    seen = {name: value for name, value in ranks[0].items() if name.startswith("gpu_")}
    if seen:
        note("INFO", f"{record['case']} clocks", seen)


def _watts(energy: Record) -> float | None:
    return energy["joules"] * energy["calls"] / energy["seconds"] if energy.get("joules") else None


def cached(place: Place) -> None:
    """What a large case leaves in torch's cache must not make the next one skip."""
    cases = ("--case", "compute/triad[num_bytes=17179869184]", "--case", "compute/copy[num_bytes=21474836480]")
    place.run("cached", *cases, "--preset", "full", "--visits", "1", "--budget", "35s")
    for record in measurements(place.results("cached")):
        expect(record["case"], record["status"], "ok")


def energy(place: Place) -> None:
    short = "dtype=bfloat16," if place.is_cuda else ""
    case = f"compute/matmul[{short}shape=square,size={bare.BIG[place.device]}]"
    place.run("energy", "--case", case, "--preset", "full", "--visits", "1", "--budget", "30s", "--profile")
    known = card()
    for record in measurements(place.results("energy")):
        found = record.get("energy") or {}
        note("INFO", f"{record['case']} energy", found)
        if known is not None:
            judge("watts", _watts(found), *known.watts, "W")
    expect("traces by the profiler", len(list(place.results("energy").glob("*.profile/*"))), 1)


def soak(place: Place) -> None:
    expect("exit code", place.run("soak", "soak", "--set", f"seconds={60 if place.is_cuda else 6}", launches=None), 0)
    statuses(place.results("soak"))
    for record in measurements(place.results("soak")):
        note("INFO", "soak", record["derived"])
        if place.is_cuda:
            judge("slowdown", record["derived"].get("slowdown"), -0.03, 0.03)


def smoke(place: Place) -> None:
    began = time.monotonic()
    expect("exit code", place.run("smoke", "--preset", "smoke"), 0)
    judge("seconds of the smoke preset", time.monotonic() - began, 0, 60, "s")
    statuses(place.results("smoke"))


def explained(place: Place) -> None:
    paths = list(place.results("smoke").glob("*.jsonl"))
    expect("explain", [call(*BENCH, "explain", str(path)) for path in paths], [0])


def _alone(place: Place, step: str, port: int, *arguments: str) -> None:
    options = ("--preset", "smoke", "--device", place.device, "-o", str(place.results(step)))
    call(*PYTHON, "device.solo", str(port), "run", *arguments, *options)


def solo_collective(place: Place) -> None:
    _alone(place, "solo_collective", 29611, "collective", "--budget", "60s")
    statuses(place.results("solo_collective"))


def solo_parallel(place: Place) -> None:
    sizes = ("hidden=1024", "ffn_hidden=4096", "num_heads=16", "sequence=1024") if place.is_cuda else ()
    settings = [word for size in sizes for word in ("--set", size)]
    _alone(place, "solo_parallel", 29612, "tensor_parallel", "--budget", "40s", *settings)
    _alone(place, "solo_parallel", 29613, "data_parallel", "context_parallel", "--budget", "50s")
    statuses(place.results("solo_parallel"))


def pair_gloo(place: Place) -> None:
    cases = [
        "collective/all_reduce[num_bytes=1048576]",
        "collective/all_gather[num_bytes=1048576]",
        "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,sequence=256]",
        "tensor_parallel/attention[batch=1,hidden=256,num_heads=16,sequence=256]",
    ]
    named = [word for case in cases for word in ("--case", case)]
    options = ["--backend", "gloo", "--device", place.device, "--preset", "smoke", "--budget", "60s"]
    torchrun = [*PYTHON, "torch.distributed.run", "--nproc-per-node=2", "--no-python", *PYTHON, "device.pair"]
    folder = place.results("pair_gloo")
    expect("exit code", call(*torchrun, place.device, "run", *options, *named, "-o", str(folder)), 0)
    statuses(folder)


def faults(place: Place) -> None:
    expect("exit code", place.run("faults", broken.__file__, "--visits", "1", "--timeout", "12s", "--budget", "70s"), 3)
    found = {record["params"]["op"]: record for record in measurements(place.results("faults"))}
    for op, wanted in broken.EXPECTED.items():
        expect(f"{op}: status", found[op]["status"] if op in found else None, wanted)
        note("INFO", op, found.get(op, {}).get("reason"))


def kill(place: Place) -> None:
    """SIGKILL of the rank's process; of this run's own children alone."""
    import psutil

    options = ("compute", "--preset", "smoke", "--device", place.device, "--ranks", "1", "--budget", "35s")
    folder = place.results("kill")
    with subprocess.Popen([*BENCH, "run", *options, "-o", str(folder)]) as run:
        rank = None
        while run.poll() is None and rank is None:
            time.sleep(0.25)
            if any(records(folder)):
                rank = next(iter(psutil.Process(run.pid).children()), None)
        if rank is not None:
            rank.send_signal(signal.SIGKILL)
        expect("exit code", run.wait(), 3)
    reasons = [record.get("reason") for record in measurements(folder) if record["status"] == "failed"]
    expect("one case was killed", ["SIGKILL" in str(reason) for reason in reasons], [True])
    measured = sum(record["status"] == "ok" for record in measurements(folder))
    judge("cases measured all the same", measured, 1, 1000)


def refuses(place: Place) -> None:
    options = ("--preset", "smoke", "--device", place.device, "--ranks", "2", "--budget", "5s")
    code = call(*BENCH, "run", "compute", *options, "-o", str(place.results("refuses")))
    expect("two ranks on one GPU", code, 2)


STEPS: dict[str, Step] = {
    "versions": Step(versions, 40, "arch a b"),
    "doctor": Step(doctor, 40, "a"),
    "parent": Step(parent, 30, "a", only_cuda=True),
    "arch": Step(arch, 330, "arch"),
    "one_rank": Step(one_rank, 60, "arch a"),
    "harness": Step(harness, 40, "arch a"),
    "compute": Step(compute, 75, "a"),
    "compare": Step(compare, 30, "arch a"),
    "cached": Step(cached, 45, "a", only_cuda=True),
    "energy": Step(energy, 45, "a"),
    "soak": Step(soak, 90, "a"),
    "solo_collective": Step(solo_collective, 75, "b"),
    "solo_parallel": Step(solo_parallel, 100, "b"),
    "pair_gloo": Step(pair_gloo, 90, "b"),
    "faults": Step(faults, 90, "b"),
    "kill": Step(kill, 60, "b"),
    "refuses": Step(refuses, 30, "b", only_cuda=True),
    "smoke": Step(smoke, 80, "b"),
    "explained": Step(explained, 20, "b"),
}
"""In the order of their worth, in case the time runs out."""
