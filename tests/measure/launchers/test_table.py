"""What a launcher's variables say, and what is made of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import pytest

from bench.core.process_environment import environment_variables
from bench.errors import BenchError
from bench.measure.launch.joined_start import check_gpus, find_place
from bench.measure.launchers.host_lists import first_host
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.launchers.table import detect
from bench.measure.launchers.threads import threads_per_rank

# As torchrun of torch 2.13 sets them for rank 3 of 2 nodes with 2 ranks each.
TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29501",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "1",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "OMP_NUM_THREADS": "1",
}
PLAIN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "head"}
SRUN = {
    "SLURM_JOB_ID": "1000",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[003-004]",
    "SLURM_JOB_NODELIST": "gpu[001-004]",
}
BATCH_SHELL = {
    "SLURM_JOB_ID": "1000",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_JOB_NODELIST": "gpu[001-004]",
}


def without(environ: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


@pytest.mark.parametrize("launcher", ["auto", "env"])
def test_torchrun_is_joined(launcher: str) -> None:
    assert detect(launcher, TORCHRUN) == LauncherRank(
        how="torchrun",
        index=3,
        world_size=4,
        local_index=1,
        address="10.0.0.1",
        port=29501,
        agent_hosts_store=True,
        attempt="1",
        local_world_size=2,
    )


@pytest.mark.parametrize("launcher", ["auto", "env"])
def test_a_plain_environment_is_joined_with_torch_s_usual_port(launcher: str) -> None:
    assert detect(launcher, PLAIN) == LauncherRank(
        how="env",
        index=1,
        world_size=2,
        local_index=None,
        address="head",
        port=29500,
        agent_hosts_store=False,
        attempt="0",
    )


@pytest.mark.parametrize("launcher", ["auto", "slurm"])
def test_a_step_of_several_tasks_is_joined(launcher: str) -> None:
    assert detect(launcher, SRUN) == LauncherRank(
        how="slurm",
        index=5,
        world_size=8,
        local_index=1,
        address="gpu003",
        port=15000 + 7002,
        agent_hosts_store=False,
        attempt="1000.2",
        address_from="SLURM_STEP_NODELIST",
        port_from="the job's id",
    )


def test_a_step_s_address_and_port_can_be_given() -> None:
    joined = detect("slurm", SRUN | {"MASTER_ADDR": "head", "MASTER_PORT": "1234"})
    assert joined is not None
    assert (joined.address, joined.port) == ("head", 1234)
    fallback = detect("slurm", without(SRUN, "SLURM_STEP_NODELIST"))
    assert fallback is not None
    assert fallback.address == "gpu001"


def test_two_steps_and_two_jobs_meet_at_different_ports() -> None:
    changes: list[dict[str, str]] = [{}, {"SLURM_STEP_ID": "3"}, {"SLURM_JOB_ID": "1001"}]
    ports = {joined.port for change in changes if (joined := detect("slurm", SRUN | change)) is not None}
    assert len(ports) == 3
    late = detect("slurm", SRUN | {"SLURM_JOB_ID": "4294901760"})
    assert late is not None
    assert 1024 <= late.port < 65536


def test_torchrun_inside_a_step_is_torchrun() -> None:
    joined = detect("auto", SRUN | TORCHRUN)
    assert joined is not None
    assert joined.how == "torchrun"
    slurm = detect("slurm", SRUN | TORCHRUN)
    assert slurm is not None
    assert slurm.how == "slurm"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        BATCH_SHELL,
        SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # an interactive shell in a step of its own
        {"MASTER_ADDR": "head", "MASTER_PORT": "29500"},
    ],
)
def test_else_the_ranks_are_started_here(environ: Mapping[str, str]) -> None:
    assert detect("auto", environ) is None


@pytest.mark.parametrize("environ", [{}, TORCHRUN, PLAIN, SRUN, {"RANK": "x"}])
def test_local_joins_nothing(environ: Mapping[str, str]) -> None:
    assert detect("local", environ) is None


@pytest.mark.parametrize(
    ("launcher", "environ", "complaint"),
    [
        ("env", {}, "--launcher env: RANK, WORLD_SIZE, MASTER_ADDR not set"),
        ("env", without(PLAIN, "WORLD_SIZE"), "--launcher env: WORLD_SIZE not set"),
        ("env", SRUN, "--launcher env: RANK, WORLD_SIZE, MASTER_ADDR not set"),
        ("slurm", BATCH_SHELL, "--launcher slurm: this process is not in an srun step"),
        ("slurm", TORCHRUN, "--launcher slurm: this process is not in an srun step"),
        ("auto", without(TORCHRUN, "RANK"), "RANK is not set in the environment"),
        ("auto", without(SRUN, "SLURM_LOCALID"), "SLURM_LOCALID is not set in the environment"),
        (
            "auto",
            without(SRUN, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"),
            "rank 0's host is unknown; set MASTER_ADDR",
        ),
        ("auto", PLAIN | {"RANK": "one"}, "RANK='one' in the environment: a whole number"),
        ("auto", PLAIN | {"RANK": ""}, "RANK='' in the environment: a whole number"),
        ("auto", PLAIN | {"MASTER_PORT": "tcp"}, "MASTER_PORT='tcp' in the environment: a whole number"),
        ("auto", PLAIN | {"LOCAL_RANK": "0.5"}, "LOCAL_RANK='0.5' in the environment: a whole number"),
        ("auto", SRUN | {"SLURM_STEP_NUM_TASKS": "8(x2)"}, "SLURM_STEP_NUM_TASKS='8(x2)' in the environment"),
        ("auto", PLAIN | {"RANK": "2"}, "RANK=2 with WORLD_SIZE=2: the launcher's variables do not fit together"),
        ("auto", PLAIN | {"RANK": "-1"}, "RANK=-1 with WORLD_SIZE=2"),
        ("auto", PLAIN | {"WORLD_SIZE": "0"}, "WORLD_SIZE is at least 1"),
        ("auto", SRUN | {"SLURM_PROCID": "8"}, "SLURM_PROCID=8 with SLURM_STEP_NUM_TASKS=8"),
        ("auto", TORCHRUN | {"LOCAL_RANK": "2"}, "LOCAL_RANK=2 with LOCAL_WORLD_SIZE=2"),
    ],
)
def test_what_does_not_fit_together_is_named(launcher: str, environ: Mapping[str, str], complaint: str) -> None:
    with pytest.raises(BenchError, match=re.escape(complaint)):
        detect(launcher, environ)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu003", "gpu003"),
        ("gpu003,gpu004", "gpu003"),
        ("gpu[003-007,9],login1", "gpu003"),
        ("gpu[9,003]", "gpu9"),
        ("login1,gpu[003-007]", "login1"),
        ("node-a.example.org,b", "node-a.example.org"),
        ("gpu[01-02]-ib", "gpu01-ib"),
        ("rack[1-2]node[03-04]", "rack1node03"),
        (" gpu[1-2] ", "gpu1"),
        ("", ""),
    ],
)
def test_the_first_host_of_a_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def joined_as(index: int, world_size: int, local_index: int | None) -> LauncherRank:
    return LauncherRank("env", index, world_size, local_index, "head", 29500, agent_hosts_store=False, attempt="0")


def test_a_rank_finds_its_place_from_the_hosts_of_all() -> None:
    hosts = ["b", "b", "a", "b", "a"]
    place = find_place(joined_as(3, 5, None), hosts)
    assert place == Place(index=3, world_size=5, local_index=2, local_world_size=3, host_index=0, num_hosts=2)
    place = find_place(joined_as(4, 5, None), hosts)
    assert place == Place(index=4, world_size=5, local_index=1, local_world_size=2, host_index=1, num_hosts=2)


def test_the_launcher_names_the_device_and_the_host_names_the_siblings() -> None:
    """Two agents of torchrun on one host give two ranks LOCAL_RANK=0: still they share the host."""
    place = find_place(joined_as(1, 2, 0), ["a", "a"])
    assert (place.local_index, place.local_world_size, place.device_index) == (1, 2, 0)


@pytest.mark.parametrize(
    ("omp_num_threads", "launcher", "threads"),
    [
        (None, None, 4),  # 8 cores for 2 ranks
        ("3", None, 3),
        ("1", None, 1),
        ("1", TORCHRUN, 4),  # torchrun's own, set where nobody did
        ("2", TORCHRUN, 2),
        ("1", PLAIN, 1),
        (None, SRUN, 4),
        ("", None, 4),
        ("0", None, 4),
        ("many", None, 4),
        ("3,2", None, 3),  # one number a nesting level; the outermost counts
    ],
)
def test_threads_of_a_rank(omp_num_threads: str | None, launcher: Mapping[str, str] | None, threads: int) -> None:
    environ = {} if omp_num_threads is None else {"OMP_NUM_THREADS": omp_num_threads}
    joined = None if launcher is None else detect("auto", launcher)
    assert threads_per_rank(environ, joined, num_cores=8, local_ranks=2) == threads


def test_more_ranks_than_cores_have_a_thread_each() -> None:
    assert threads_per_rank({}, None, num_cores=2, local_ranks=3) == 1
    assert threads_per_rank({}, None, num_cores=8, local_ranks=3) == 2


def test_fewer_ranks_than_gpus_are_refused_with_both_commands() -> None:
    with pytest.raises(BenchError) as caught:
        check_gpus(Place(0, 4, 0, 2), 8, "this node")
    text = str(caught.value)
    assert text.startswith("2 rank(s) on this node, which has 8 GPUs")
    assert "torchrun --nproc-per-node=8 --no-python bench run" in text
    assert "srun --ntasks-per-node=8 bench run" in text


@pytest.mark.parametrize(("local_ranks", "num_visible"), [(8, 8), (4, 1), (1, 1), (2, 0), (4, 2)])
def test_a_gpu_for_every_rank_or_a_launcher_that_narrowed_them_down(local_ranks: int, num_visible: int) -> None:
    check_gpus(Place(0, local_ranks, 0, local_ranks), num_visible, "this node")


def test_the_environment_is_this_process_s_own() -> None:
    assert environment_variables() is os.environ
