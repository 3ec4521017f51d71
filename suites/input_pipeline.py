"""Input pipeline: a DataLoader that reads real files, against training steps of known length.

What is measured: one epoch on every rank, each over its own share of the files (DistributedSampler, shuffled
again). `full` fetches every batch and takes a step with it; `step_only` takes the steps alone; `loader_only`
fetches alone. Why: a device that waits for its data is paid for and idle, and nothing in a training loop says
so. What comes of it:

    samples_per_s, read_gb_per_s  of full, all ranks together; bytes are those of the files
    loader_gb_per_s               of loader_only: what the loader could give a faster device
    accelerator_utilisation       step_only / full: compute time / total time, as MLPerf Storage defines it
                                  (mlcommons/storage, Submission_guidelines.md, 4.1); here the start of the
                                  epoch counts as well, and the compute time is measured

`tokens` are sequences of a memory-mapped file of 16-bit tokens, delivered as int64; `samples` are small files of
random bytes, one each. Nothing is decoded. All is written beforehand, from the run's seed, into a new folder
on every host (`folder=PATH`; the system's temporary folder by default), which is removed in the end.

The step, `step=wait`: the host waits `step_ms`, as MLPerf Storage does, and its cores are free for the
loader, as they are where a GPU computes. `step=matmul`: multiplications of `step_gflop` in all. On a GPU that
is the truth; on a CPU the loader's workers take cores from it, and the utilisation holds that loss too: right for
training on this CPU, wrong for a GPU that one will have.

`cache=uncached` drops the files from the page cache before every epoch, untimed. A twin of the files that stays
in the cache is read as `from_cache`: page_cache_gain is loader_only / from_cache. `cached_share` is what
part of the files was in the cache when an epoch began. Names and sizes of files stay in memory either way.

Workers are started before anything is timed, and end with their rank.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure.engine import control
from bench.suite import (
    Check,
    Machine,
    Observed,
    Param,
    Params,
    Presets,
    Skip,
    SuiteMetric,
    Work,
    positive_int,
    skip_if,
)
from bench.workloads.storage import page_cache, scratch_dir
from bench.workloads.storage.epoch_looks import EpochLooks, epoch_checks
from bench.workloads.storage.epoch_steps import MATMUL_SIZE, STEP_KINDS
from bench.workloads.storage.epochs import Epochs, Shifted
from bench.workloads.storage.input_files import Files, digest, end_with_rank

if TYPE_CHECKING:
    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.timed_results import BufferLooks

MIB = 2**20
DEFAULTS: Params = {
    "num_workers": 0,
    "step": "wait",
    "step_ms": 10,
    "step_gflop": 1,
    "cache": "warm",
    "folder": scratch_dir.TEMPORARY,
}
STEPS = ("wait", "matmul")
CHOICES: dict[str, tuple[Param, ...]] = {
    "op": ("tokens", "samples"),
    "step": STEPS,
    "cache": page_cache.CACHE_STATES,
}
METRICS = {
    "samples_per_s": SuiteMetric(
        "samples/s", "higher", "Samples that all ranks together fetch and take their steps with, per second."
    ),
    "read_gb_per_s": SuiteMetric(
        "GB/s", "higher", "Bytes of the files that all ranks together fetch and take their steps with, per second."
    ),
    "loader_gb_per_s": SuiteMetric(
        "GB/s", "higher", "Bytes of the files that all ranks' loaders fetch per second, without steps."
    ),
    "accelerator_utilisation": SuiteMetric(
        "share",
        "higher",
        "Time of the epoch's steps alone over the time of the epoch with its data (MLPerf Storage, submission"
        " guidelines, 4.1).",
    ),
    "page_cache_gain": SuiteMetric(
        "x", "neither", "Time of reading past the page cache over that of reading a twin of the files that stays in it."
    ),
    "cached_share": SuiteMetric(
        "share", "neither", "Share of the files that was in the page cache when a sample began."
    ),
}
SIZE = {"tokens": "sequence", "samples": "sample_bytes"}
"""Operation -> the parameter that says how large a sample is."""
STEP_SIZE = {"wait": "step_ms", "matmul": "step_gflop"}
PREFETCH = 2
"""Batches that each worker has ready: the DataLoader's own default."""
WORKER_BYTES, SERVER_BYTES = 100 * MIB, 300 * MIB
"""Memory of a worker on top of what it shares with the process that forks workers, and of that process, with torch."""
SHARED_MEMORY = Path("/dev/shm")

# The base point of each operation. Samples as large as ImageNet's pictures, 110 KB; sequences as of GPT-2.
BASE: Presets[dict[str, Params]] = Presets(
    cpu={
        "smoke": {
            "tokens": {"sequence": 256, "batch_size": 4, "num_batches": 4},
            "samples": {"sample_bytes": 16 * 1024, "batch_size": 4, "num_batches": 4},
        },
        "standard": {
            "tokens": {"sequence": 1024, "batch_size": 8, "num_batches": 8},
            "samples": {"sample_bytes": 112 * 1024, "batch_size": 16, "num_batches": 8},
        },
        "full": {
            "tokens": {"sequence": 1024, "batch_size": 8, "num_batches": 64},
            "samples": {"sample_bytes": 112 * 1024, "batch_size": 32, "num_batches": 32},
        },
    },
    cuda={
        "smoke": {
            "tokens": {"sequence": 8192, "batch_size": 2, "num_batches": 16},
            "samples": {"sample_bytes": 112 * 1024, "batch_size": 64, "num_batches": 8},
        },
        "standard": {
            "tokens": {"sequence": 8192, "batch_size": 2, "num_batches": 32},
            "samples": {"sample_bytes": 112 * 1024, "batch_size": 128, "num_batches": 16},
        },
        "full": {
            "tokens": {"sequence": 8192, "batch_size": 2, "num_batches": 256},
            "samples": {"sample_bytes": 112 * 1024, "batch_size": 256, "num_batches": 64},
        },
    },
)
WORKERS = Presets(
    cpu={"smoke": (1,), "standard": (1, 0, 2), "full": (1, 0, 2, 4)},
    cuda={"smoke": (4,), "standard": (4, 0, 1, 2, 8), "full": (4, 0, 1, 2, 8, 16)},
)


def cases(machine: Machine) -> Iterator[Params]:
    """Small files with the usual number of workers, uncached; tokens; then over numbers of workers."""
    base, workers = BASE.at(machine), WORKERS.at(machine)
    step: Params = {"step": "matmul", "step_gflop": 5000} if machine.device_type == "cuda" else {}
    samples: Params = {"op": "samples", **base["samples"], **step}
    tokens: Params = {"op": "tokens", **base["tokens"], **step}
    yield samples | {"num_workers": workers[0]}
    yield samples | {"num_workers": workers[0], "cache": "uncached"}
    yield tokens | {"num_workers": workers[0]}
    yield from (samples | {"num_workers": number} for number in workers[1:])
    yield tokens | {"num_workers": workers[0], "cache": "uncached"}
    yield from (tokens | {"num_workers": number} for number in workers[1:])
    if machine.preset == "full":
        other: Params = {"step": "wait"} if machine.device_type == "cuda" else {"step": "matmul"}
        yield samples | {"num_workers": workers[0], "step_gflop": 1} | other
        yield from (samples | {"num_workers": number, "cache": "uncached"} for number in workers[1:])


def _sample_bytes(params: Params) -> int:
    """Bytes of a sample in its file."""
    return 2 * (_positive(params, "sequence") + 1) if params["op"] == "tokens" else _positive(params, "sample_bytes")


def _batch_bytes(params: Params) -> int:
    """Bytes of a batch as it is delivered: tokens are int64 by then."""
    return int(params["batch_size"]) * _sample_bytes(params) * (4 if params["op"] == "tokens" else 1)


_positive = partial(positive_int, "input_pipeline")


def _misfit(params: Params) -> str | None:
    """Reason why these parameters do not fit together; None if they do."""
    for step, size in STEP_SIZE.items():
        if step != params["step"] and params[size] not in (DEFAULTS[size], None):
            return f"{size} has no meaning for step={params['step']}"
    return None


def memory(params: Params, machine: Machine) -> int:
    """Bytes of a rank: batches under way, the matrices of the step, and what its workers take of the host."""
    num_workers = _positive(params, "num_workers", least=0)
    batches = (2 + PREFETCH * num_workers) * _batch_bytes(params)
    matrices = 3 * 4 * MATMUL_SIZE[machine.device_type] ** 2 if params["step"] == "matmul" else 0
    # Workers live in the host's memory, which on a GPU machine is not what is counted here.
    processes = SERVER_BYTES + WORKER_BYTES * num_workers if machine.device_type == "cpu" and num_workers else 0
    return batches + matrices + processes


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises BenchError for a bad value or folder, Skip without room, and if uncached reads are not possible."""
    skip_if(_misfit(params))
    num_samples = rank.world_size * _positive(params, "batch_size") * _positive(params, "num_batches")
    num_workers, uncached = _positive(params, "num_workers", least=0), params["cache"] == "uncached"
    num_bytes = num_samples * _sample_bytes(params)
    folder = str(params["folder"])
    _ask_shared_memory(params, num_workers, rank)
    scratch_dir.require_room(rank, folder, num_bytes * (2 if uncached else 1))
    root, held = scratch_dir.new_scratch(rank, folder, "input", per_host=True)
    files, digests = _written(params, num_samples, root, rank, twin=uncached)
    if uncached:
        page_cache.require_uncached(rank, files.paths(0))
    step, products = STEP_KINDS[str(params["step"])](_positive(params, STEP_SIZE[str(params["step"])]), rank)
    pipeline = _pipeline(params, files, step, rank)
    batches = EpochLooks(pipeline, digests, int(params["batch_size"]), random.Random(rank.seed + rank.index))

    def close() -> None:
        pipeline.stop()
        control.maxima(rank, [0])  # nobody reads any more
        if held is not None:
            held.close()

    variants = _variants(pipeline, uncached)
    return Work(
        communicates=False,
        variants=variants,
        check=lambda: _check(pipeline, Counter(digests), rank, products),
        timed_checks=epoch_checks(variants, batches, products),
        least_seconds=_least_seconds(params),
        clock="host",
        reset=pipeline.drop if uncached else None,
        close=close,
        per_rank=pipeline.facts,
        derive=lambda observed: derive(observed, num_samples, num_bytes),
        notes=_notes(params, root, num_workers, rank),
    )


def _variants(pipeline: Epochs, uncached: bool) -> dict[str, Callable[[], object]]:
    """The variants, whose files have been read once."""
    pipeline.load()
    variants: dict[str, Callable[[], object]] = {
        "full": pipeline.full,
        "step_only": pipeline.step_only,
        "loader_only": pipeline.load,
    }
    if uncached:
        pipeline.load(1)
        variants["from_cache"] = lambda: pipeline.load(1)
    return variants


def _least_seconds(params: Params) -> dict[str, float]:
    """Seconds that the steps wait in each variant that takes them, whatever the loader does."""
    if params["step"] != "wait":
        return {}
    seconds = _positive(params, "num_batches") * _positive(params, "step_ms") / 1e3
    return {"full": seconds, "step_only": seconds}


def _ask_shared_memory(params: Params, num_workers: int, rank: RankContext) -> None:
    """Workers hand batches over in shared memory, of which a container may have little. Raises Skip without room."""
    needed = num_workers * (PREFETCH + 1) * _batch_bytes(params) * rank.machine.ranks_per_host
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None
    short = free is not None and needed > free
    if control.maxima(rank, [int(short)])[0]:
        raise Skip(f"workers need {needed / MIB:.0f} MiB of {SHARED_MEMORY}, and not every rank's host has them free")


def _written(params: Params, num_samples: int, root: Path, rank: RankContext, twin: bool) -> tuple[Files, list[str]]:
    """The files, of which each rank of a host writes its share, and the digest of each sample by its index."""
    op = str(params["op"])
    size = _positive(params, "sequence") + 1 if op == "tokens" else _positive(params, "sample_bytes")
    folders = tuple(root / name for name in ("data", "twin")[: 2 if twin else 1])
    files = Files(op, folders, num_samples, size)

    def write() -> list[str]:
        for folder in folders:
            folder.mkdir(exist_ok=True)
        return files.write(range(rank.local_index, num_samples, rank.local_world_size), rank.seed)

    digests = scratch_dir.call_on_all(rank, write)
    rows = control.all_gather_json(rank, [rank.place.host_index, rank.local_index, digests])
    if twin and rank.local_index == 0:
        for path in files.paths(0):
            page_cache.sync(path)
    by_index = [""] * num_samples
    for host, local_index, texts in rows:
        if host == rank.place.host_index:
            by_index[local_index :: rank.local_world_size] = texts
    return files, by_index


def _pipeline(params: Params, files: Files, step: Callable[[], object], rank: RankContext) -> Epochs:
    from torch.utils.data import DataLoader, DistributedSampler

    num_workers = int(params["num_workers"])
    sampler: Any = DistributedSampler(
        range(files.num_samples),  # type: ignore[arg-type]
        num_replicas=rank.world_size,
        rank=rank.index,
        seed=rank.seed,
    )
    shifted = Shifted(sampler)
    with warnings.catch_warnings():
        # More workers than cores is what may be asked for here.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader: Any = DataLoader(
            files,  # type: ignore[arg-type]
            batch_size=int(params["batch_size"]),
            sampler=shifted,
            num_workers=num_workers,
            multiprocessing_context=_start_method() if num_workers else None,
            persistent_workers=num_workers > 0,
            prefetch_factor=PREFETCH if num_workers else None,
            pin_memory=rank.device.type == "cuda",
            worker_init_fn=end_with_rank if num_workers else None,
        )
    return Epochs(files, loader, sampler, shifted, step, int(params["num_batches"]), rank.device)


def _start_method() -> Any:
    """Workers are forked by a process that has torch, and no threads, as a rank has, that no fork survives."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.utils.data", "numpy"])
    return context


def _check(pipeline: Epochs, expected: Counter[str], rank: RankContext, products: BufferLooks | None) -> Check:
    """Samples that came to no rank, twice, or not as they were written, in an epoch over each folder; none may."""
    if products is not None:
        pipeline.step()
        products.learn()
    error = 0
    for folder in range(len(pipeline.files.folders)):
        digests = [digest(row.cpu().numpy()) for batch in pipeline.batches(folder) for row in batch]
        delivered = Counter(text for texts in control.all_gather_json(rank, digests) for text in texts)
        error += (delivered - expected).total() + (expected - delivered).total()
    return Check(float(error), 0.0)


def derive(observed: Observed, num_samples: int, num_bytes: int) -> Mapping[str, float | None]:
    """Rates and shares from the times of the variants; see the top of the file."""
    seconds = observed.seconds
    from_cache = seconds.get("from_cache")
    shares = [row["cached_share"] for row in observed.per_rank if row["cached_share"] is not None]
    return {
        "samples_per_s": num_samples / seconds["full"],
        "read_gb_per_s": num_bytes / seconds["full"] / 1e9,
        "loader_gb_per_s": num_bytes / seconds["loader_only"] / 1e9,
        "accelerator_utilisation": seconds["step_only"] / seconds["full"],
        "page_cache_gain": seconds["loader_only"] / from_cache if from_cache else None,
        "cached_share": max(shares) if len(shares) == observed.world_size else None,
    }


def _notes(params: Params, root: Path, num_workers: int, rank: RankContext) -> tuple[str, ...]:
    notes = [*page_cache.notes(root)]
    if rank.device.type == "cpu" and params["step"] == "matmul":
        notes.append("the step computes on the cores that the workers read with: not what a GPU's host would see")
    processes = rank.machine.ranks_per_host * (1 + num_workers)
    if processes > rank.machine.num_cores:
        notes.append(f"{processes} processes a host, workers included, share {rank.machine.num_cores} cores")
    return tuple(notes)
