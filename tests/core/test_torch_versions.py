"""Old and new versions of torch: which are accepted, what each lacks, and that the cases in question are skipped."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from torch.distributed.pipelining import PipelineStage

from bench.core import torch_versions
from bench.core.torch_versions import FEATURES, known_arguments, missing, release, skip_reason
from bench.measure.doctor.checks import examine
from bench.measure.planning.suite_loader import load
from bench.parallelism.pipeline.schedules import SCHEDULES
from bench.suite import Params, Skip
from bench.workloads.model import product_check
from bench.workloads.parallel.pipeline import TracedStage
from bench.workloads.parallel.torch_schedules import lack
from suites import context_parallel, data_parallel, training_step
from tests import ROOT
from tests.measure.doctor.test_checks import CPU_NODE, GPU_NODE
from tests.support.ranks import cpu_machine

VENDORS = "2.12.0a0+abc.nv26.3"
"""A pre-release by PEP 440, as containers of NVIDIA's have it."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls with a version make this process's torch seem to be of that version."""
    return lambda version: monkeypatch.setattr(torch_versions, "installed", lambda: version)


def requirement() -> Requirement:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (found,) = [Requirement(text) for text in dependencies if Requirement(text).name == "torch"]
    return found


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("2.7.1+cu128", False),
        ("2.8.0a0+5228986c39.nv25.6", True),
        ("2.8.0+cu128", True),
        ("2.9.1", True),
        ("2.11.0+rocm7.1", True),
        (VENDORS, True),
        ("2.13.0+cpu", True),
        ("2.16.0.dev20261120+cu130", True),
        ("3.0.0", True),
    ],
)
def test_versions_that_pip_accepts(version: str, accepted: bool) -> None:
    assert requirement().specifier.contains(version) is accepted


def test_no_feature_is_older_than_the_lowest_version() -> None:
    """A row for what every accepted version has would skip nothing."""
    assert all(row.since > (2, 8) for row in FEATURES.values())
    assert not requirement().specifier.contains("2.7.9")


def test_a_pre_release_counts_as_its_release() -> None:
    assert release(VENDORS) == (2, 12)
    assert release("2.8.0+cu128") == (2, 8)
    assert missing("2.9.0a0+abc.nv25.9", "gloo").keys() == {"zbv_neighbours"}
    assert missing(VENDORS, "gloo") == {}


def test_what_gloo_lacks_is_no_matter_on_nccl() -> None:
    assert missing("2.8.0", "gloo") == FEATURES
    assert missing("2.8.0", "nccl").keys() == {"dual_pipe_v"}


def test_the_torch_of_the_tests_lacks_nothing() -> None:
    assert missing(str(torch.__version__), "gloo") == {}
    assert [skip_reason(name, "gloo") for name in FEATURES] == [None] * len(FEATURES)


STEP = next(iter(training_step.cases(cpu_machine(2))))
PIPELINE: Params = {"pp": 2, "tp": 1, "dp_mode": "replicate", "num_microbatches": 4}


@pytest.mark.parametrize(
    ("suite", "params", "reason"),
    [
        ("training_step", STEP | {"dp_mode": "shard"}, "torch 2.8 sums gradients in fully_shard over gloo"),
        ("training_step", STEP | PIPELINE | {"schedule": "zbv_zero_bubble"}, "torch 2.8 has a rank send to itself"),
        ("data_parallel", {"op": "fsdp"}, "torch 2.8 sums gradients in fully_shard over gloo"),
        ("pipeline_parallel", {"op": "zbv_zero_bubble"}, "torch 2.8 has a rank send to itself"),
        ("pipeline_parallel", {"op": "dual_pipe_v"}, "torch 2.8 has no ScheduleDualPipeV; 2.9 or newer will do"),
        ("context_parallel", {"op": "ring"}, "torch 2.8 corrupts memory in the CPU's flash attention backward"),
    ],
)
def test_what_a_version_cannot_run_is_skipped_in_words(fake: Any, suite: str, params: Params, reason: str) -> None:
    fake("2.8.0+cu128")
    loaded, machine = load(suite), cpu_machine(2, "standard")
    rank: Any = SimpleNamespace(world_size=2, machine=machine, device=torch.device("cpu"), backend="gloo")
    base = next(case for case in loaded.cases(machine) if "op" not in params or case["op"] == params["op"])
    with pytest.raises(Skip, match=reason):
        loaded.prepare({**loaded.defaults, **base, **params}, rank)


def _reasons(backend: str) -> dict[str, str | None]:
    """Of the cases above, why they cannot run; None if they can."""
    device_type = "cpu" if backend == "gloo" else "cuda"
    step: Params = STEP | {"dp_mode": "shard"}
    fsdp = {**data_parallel.DEFAULTS, **data_parallel.BASE.cpu["standard"], "op": "fsdp"}
    ring: Params = {**context_parallel.DEFAULTS, **context_parallel.BASE[device_type], "op": "ring"}
    return {
        "step": training_step._lack(step, training_step.layout_of(2, 1, 1), backend),  # type: ignore[arg-type]
        "fsdp": data_parallel._skip_reason(fsdp, 2, backend),
        "ring": context_parallel._skip_reason(ring, 2, device_type),
        "zbv": lack(SCHEDULES["zbv_zero_bubble"], backend),
    }


@pytest.mark.parametrize(("version", "backend"), [("2.10.0", "gloo"), (VENDORS, "gloo"), ("2.8.0", "nccl")])
def test_what_a_version_can_run_is_not_skipped(fake: Any, version: str, backend: str) -> None:
    fake(version)
    assert set(_reasons(backend).values()) == {None}


def test_cases_that_need_nothing_new_run_with_the_oldest(fake: Any) -> None:
    fake("2.8.0")
    ddp = {**data_parallel.DEFAULTS, **data_parallel.BASE.cpu["standard"], "op": "ddp"}
    assert data_parallel._skip_reason(ddp, 2, "gloo") is None
    split: Any = training_step.layout_of(4, 2, 1)
    assert training_step._lack(STEP | {"dp_mode": "replicate"}, split, "gloo") is None
    forward: Params = {**context_parallel.DEFAULTS, **context_parallel.BASE["cpu"], "op": "ring"}
    assert context_parallel._skip_reason(forward | {"direction": "forward"}, 2, "cpu") is None
    assert lack(SCHEDULES["1f1b"], "gloo") is None


def test_the_doctor_says_what_a_version_lacks() -> None:
    old = [finding.line() for finding in examine(replace(CPU_NODE, torch_version="2.8.0+cpu"))]
    assert "ok: torch: 2.8.0+cpu" in old
    (line,) = [line for line in old if line.startswith("ok: torch 2.8: ")]
    assert all(row.lack in line for row in FEATURES.values())
    assert line.endswith("such cases are skipped; 2.10 or newer has all")
    on_gpus = [finding.line() for finding in examine(replace(GPU_NODE, torch_version="2.8.0+cu128"))]
    assert "ok: torch 2.8: has no ScheduleDualPipeV: such cases are skipped; 2.9 or newer has all" in on_gpus
    new = [finding.line() for finding in examine(replace(CPU_NODE, torch_version=VENDORS))]
    assert [line for line in new if "torch" in line] == [f"ok: torch: {VENDORS}"]


@pytest.mark.parametrize(("backend", "peers"), [("gloo", [0, 0]), ("nccl", [1, 0, 0])])
def test_messages_before_the_first_step_are_such_as_gloo_takes(
    monkeypatch: pytest.MonkeyPatch, backend: str, peers: list[int]
) -> None:
    """torch 2.9 sends int64 where it receives float32, and up to 2.11 a rank sends to itself."""
    sent, received = torch.tensor(3), torch.zeros(1)
    ops = [SimpleNamespace(tensor=sent, group_peer=peer) for peer in (1, 0)]
    ops.append(SimpleNamespace(tensor=received, group_peer=0))
    monkeypatch.setattr(PipelineStage, "_get_init_p2p_neighbors_ops", lambda self: ops, raising=False)
    stage: Any = TracedStage.__new__(TracedStage)
    stage.__dict__ |= {"_rank": SimpleNamespace(backend=backend), "group_rank": 1}
    found = stage._get_init_p2p_neighbors_ops()
    assert [op.group_peer for op in found] == peers
    assert {op.tensor.dtype for op in found} == {torch.float32}
    assert found[-1].tensor is received


def test_only_arguments_that_a_callable_has_are_given() -> None:
    def step(*batch: Any, losses: Any = None, **of_the_model: Any) -> None:
        """As torch 2.9 has it: what it does not know goes on to the model."""

    assert known_arguments(step, losses=[], return_outputs=False) == {"losses": []}


@pytest.mark.parametrize(
    ("setting", "device_type", "precision"),
    [("highest", "cpu", "ieee"), ("medium", "cpu", "bf16"), ("medium", "cuda", "tf32"), ("high", "cuda", "tf32")],
)
def test_the_precision_of_float32_is_told_by_old_versions_too(
    monkeypatch: pytest.MonkeyPatch, setting: str, device_type: str, precision: str
) -> None:
    monkeypatch.setattr(torch.backends, "mkldnn", SimpleNamespace())
    monkeypatch.setattr(torch.backends, "cuda", SimpleNamespace(matmul=SimpleNamespace()))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: setting)
    assert product_check._float32_precision(device_type) == precision
