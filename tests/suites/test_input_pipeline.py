"""The input pipeline: what is delivered is what was written, with wrong files, and its metrics by hand."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bench.errors import BenchError, Skip
from bench.measure.planning.suite_loader import load
from bench.suite import Check, Observed, Work
from bench.workloads.storage import page_cache
from bench.workloads.storage.input_files import LAYOUTS, Files
from suites import input_pipeline
from tests import ROOT
from tests.support.ranks import cpu_machine
from tests.workloads.storage.test_scratch_dir import one_rank

SUITE = load("input_pipeline")
SMALL: dict[str, dict[str, Any]] = {
    "tokens": {"op": "tokens", "sequence": 33, "batch_size": 2, "num_batches": 3, "step_ms": 1},
    "samples": {"op": "samples", "sample_bytes": 5001, "batch_size": 2, "num_batches": 3, "step_ms": 1},
}


def _prepare(params: dict[str, Any], folder: Path) -> Work:
    return SUITE.prepare(SUITE.defaults | params | {"folder": str(folder)}, one_rank())


def _close(work: Work) -> None:
    assert work.close is not None
    work.close()


@pytest.mark.parametrize("op", SMALL)
def test_a_wrong_byte_and_a_sample_that_comes_twice_are_noticed(op: str, tmp_path: Path) -> None:
    work = _prepare(SMALL[op], tmp_path)
    assert Check(*work.check()).error == 0
    (data,) = tmp_path.glob("bench-input-*/data")
    path = LAYOUTS[op].paths(data, 6)[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    # One sample is not what was written, and one that was written has not come.
    assert Check(*work.check()) == Check(2.0, 0.0)
    _close(work)
    assert not list(tmp_path.iterdir())


def test_an_epoch_in_the_same_order_or_with_a_rank_left_out_is_noticed(tmp_path: Path) -> None:
    work = _prepare(SMALL["samples"], tmp_path)
    pipeline = work.variants["full"].__self__  # type: ignore[attr-defined]
    first, second = ([batch.sum().item() for batch in pipeline.batches()] for _ in range(2))
    assert first != second
    assert len(first) == 3
    pipeline.shifted.inner = [0, 0, 1, 2, 3, 4]
    pipeline.sampler.set_epoch = lambda epoch: None
    assert Check(*work.check()).error == 2
    _close(work)


def test_samples_are_written_from_the_seed(tmp_path: Path) -> None:
    for op, size in (("tokens", 34), ("samples", 5001)):
        folder = tmp_path / op
        folder.mkdir()
        files = Files(op, (folder,), 4, size)
        digests = files.write(range(3), seed=7)
        assert len(set(digests)) == 3
        assert files.write(range(3), seed=7) == digests
        assert not set(files.write(range(3, 4), seed=8)) & set(digests)
        item = files[1].numpy()
        assert item.shape == (size,)
        assert np.array_equal(item, LAYOUTS[op].delivered(LAYOUTS[op].raw(7, 1, size)))
        assert len(files) == 4


def test_metrics_by_hand() -> None:
    observed = Observed(
        world_size=2,
        num_cores=2,
        device_type="cpu",
        seconds={"full": 0.5, "step_only": 0.4, "loader_only": 0.2, "from_cache": 0.1},
        rank_seconds={},
        spans=(),
        traced_call_ns=(),
        per_rank=({"cached_share": 0.25}, {"cached_share": 0.0}),
    )
    assert input_pipeline.derive(observed, num_samples=100, num_bytes=10**9) == {
        "samples_per_s": 200.0,
        "read_gb_per_s": 2.0,
        "loader_gb_per_s": 5.0,
        "accelerator_utilisation": 0.8,
        "page_cache_gain": 2.0,
        "cached_share": 0.25,
    }


def test_bad_values_and_what_does_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(Skip, match="step_gflop has no meaning for step=wait"):
        _prepare(SMALL["tokens"] | {"step_gflop": 4}, tmp_path)
    with pytest.raises(Skip, match="step_ms has no meaning for step=matmul"):
        _prepare(SMALL["tokens"] | {"step": "matmul"}, tmp_path)
    with pytest.raises(BenchError, match="num_workers=-1; give a whole number of at least 0"):
        SUITE.memory_bytes(SUITE.defaults | SMALL["tokens"] | {"num_workers": -1}, cpu_machine(2))
    work = _prepare(SMALL["samples"] | {"step": "matmul", "step_ms": 10, "step_gflop": 1}, tmp_path)
    assert any("not what a GPU's host would see" in note for note in work.notes)
    work.variants["step_only"]()
    _close(work)


def test_presets_nest_in_kind_and_every_value_is_a_choice() -> None:
    for device_type in ("cpu", "cuda"):
        for preset in ("smoke", "standard", "full"):
            machine = cpu_machine(2, preset)
            rows = list(SUITE.cases(type(machine)(**{**machine.__dict__, "device_type": device_type})))
            assert len({SUITE.case(row).id for row in rows}) == len(rows)
            assert Counter(row["op"] for row in rows).keys() == {"tokens", "samples"}
            assert {row["cache"] for row in rows} == set(page_cache.CACHE_STATES)
            assert all(input_pipeline._misfit(row) is None for row in rows)


LOADING = """
import os, sys
from pathlib import Path
from tests.suites.test_input_pipeline import SMALL, _prepare
if __name__ == "__main__":
    work = _prepare(SMALL["samples"] | {"num_workers": 2}, Path(sys.argv[1]))
    workers = work.variants["full"].__self__.loader._iterator._workers
    print(*(worker.pid for worker in workers), flush=True)
    sys.stdin.read()
"""


@pytest.mark.long
def test_no_worker_outlives_a_rank_that_is_killed(tmp_path: Path) -> None:
    root = str(ROOT)
    command = [sys.executable, "-c", LOADING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as rank:
        assert rank.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in rank.stdout.readline().split()]
        server = workers[0].parent()
        assert len(workers) == 2
        assert server is not None
        rank.kill()
        gone, left = psutil.wait_procs([*workers, server], timeout=20)
        assert not left, (gone, left)
    # The next case that needs a folder there removes what was left.
    _close(_prepare(SMALL["samples"], tmp_path))
    assert not list(tmp_path.iterdir())
