"""What a launcher's variables say, and what is made of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

import pytest

from bench.core.process_environment import environment_variables
from bench.errors import BenchError
from bench.measure.launch.joined_start import check_gpus, find_place
from bench.measure.launchers import table
from bench.measure.launchers.host_lists import expand, first_host, rank_hosts
from bench.measure.launchers.known import LAUNCHERS
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.launchers.table import RefusedLauncherError, detect
from bench.measure.launchers.threads import threads_per_rank
from tests import ROOT

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
OPEN_MPI = {  # as mpirun of Open MPI 4.1.4 sets them
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_ess_base_jobid": "4230873089",
    "OMPI_MCA_orte_hnp_uri": "4230873088.0;tcp://10.77.0.1:51031",
    "PMIX_NAMESPACE": "4230873089",
    "PMIX_RANK": "3",
}
HYDRA = {  # as mpiexec of MPICH 4.0.2 sets them
    "PMI_RANK": "3",
    "PMI_SIZE": "4",
    "PMI_FD": "14",
    "MPI_LOCALRANKID": "1",
    "MPI_LOCALNRANKS": "2",
    "MPIR_CVAR_CH3_INTERFACE_HOSTNAME": "node1",
}
DAEMONS_STEP = {  # of the srun by which either starts its daemons inside a job of Slurm 22.05
    "SLURM_JOB_ID": "3",
    "SLURM_STEP_ID": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_JOB_NODELIST": "node[1-2]",
}
REFUSED = {
    "jsrun": {"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_LOCAL_RANK": "1"} | OPEN_MPI,
    "Intel MPI": HYDRA | {"I_MPI_MPIRUN": "mpirun"},
    "PALS": {"PALS_RANKID": "1", "PALS_LOCAL_RANKID": "1", "PMI_RANK": "1", "PMI_SIZE": "2"},
    "flux run": {"FLUX_TASK_RANK": "1", "FLUX_JOB_SIZE": "2", "FLUX_TASK_LOCAL_ID": "1"},
    "mpirun_rsh": {"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"},
    "PRRTE": {"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-node1-77@1"},
    "a program with PMI": {"PMI_RANK": "1", "PMI_SIZE": "2"},
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


def test_a_rank_of_open_mpi_is_joined() -> None:
    assert detect("auto", OPEN_MPI) == LauncherRank(
        how="Open MPI",
        index=3,
        world_size=4,
        local_index=1,
        address="",
        port=table.job_port("4230873089"),
        agent_hosts_store=False,
        attempt="4230873089",
        local_world_size=2,
        address_from="",
        port_from="the job's id",
    )


def test_a_rank_of_hydra_is_joined() -> None:
    assert detect("auto", HYDRA) == LauncherRank(
        how="Hydra",
        index=3,
        world_size=4,
        local_index=1,
        address="",
        port=0,  # Hydra says the job's name through PMI alone
        agent_hosts_store=False,
        attempt="0",
        local_world_size=2,
        address_from="",
        port_from="",
    )


def how(launcher: str, environ: Mapping[str, str]) -> str | None:
    joined = detect(launcher, environ)
    return None if joined is None else joined.how


@pytest.mark.parametrize(
    ("environ", "launcher"),
    [
        (PLAIN | OPEN_MPI, "env"),  # the wrapper that a refusal names
        (TORCHRUN | OPEN_MPI, "torchrun"),
        (TORCHRUN | HYDRA | SRUN, "torchrun"),
        (OPEN_MPI | DAEMONS_STEP, "Open MPI"),
        (HYDRA | DAEMONS_STEP, "Hydra"),
        (HYDRA | {"I_MPI_ROOT": "/opt/intel"}, "Hydra"),  # Intel's is loaded, MPICH's was called
        (SRUN | {"PMI_RANK": "5", "PMI_SIZE": "8", "PMI_FD": "11", "PMI_JOBID": "1000.2"}, "slurm"),  # --mpi=pmi2
        (SRUN | {"PMIX_RANK": "5", "PMIX_NAMESPACE": "slurm.pmix.1000.2"}, "slurm"),  # --mpi=pmix
        (SRUN | {"MV2_COMM_WORLD_RANK": "5", "MV2_COMM_WORLD_SIZE": "8"}, "slurm"),
        (SRUN | {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "head"}, "slurm"),  # left over from a shell
        (SRUN | {"RANK": "5", "WORLD_SIZE": "8"}, "slurm"),
    ],
)
def test_the_innermost_launcher_counts(environ: Mapping[str, str], launcher: str) -> None:
    assert how("auto", environ) == launcher


def test_mpi_can_be_insisted_on() -> None:
    assert how("mpi", OPEN_MPI | PLAIN) == "Open MPI"
    assert how("mpi", HYDRA | SRUN) == "Hydra"


@pytest.mark.parametrize(
    ("name", "more"),
    [
        *((name, {}) for name in REFUSED),
        *((name, DAEMONS_STEP) for name in REFUSED if name not in ("mpirun_rsh", "a program with PMI")),
    ],
)
def test_launchers_that_were_not_tried_stop_with_what_to_type(name: str, more: Mapping[str, str]) -> None:
    with pytest.raises(RefusedLauncherError) as caught:
        detect("auto", REFUSED[name] | more)
    text = str(caught.value)
    assert name in text
    assert "; type: " in text
    assert "MASTER_ADDR=HOST exec bench run'" in text
    assert "\n" not in text
    assert caught.value.index is not None


def test_what_a_refusal_says_to_type_is_joined() -> None:
    """The shell puts the launcher's own variables into those of a plain environment."""
    for name, environ in REFUSED.items():
        words = next(row.refusal for row in LAUNCHERS if name in row.program)
        given = dict(re.findall(r"(RANK|WORLD_SIZE|LOCAL_RANK|MASTER_ADDR)=(\S+)", words.partition(" exec ")[0]))
        assert set(given) == {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"}
        filled = {key: environ.get(value.removeprefix("$"), value) for key, value in given.items()}
        typed = environ | {**filled, "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
        assert how("auto", typed) == "env"


@pytest.mark.parametrize(
    "environ",
    [
        OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"} | DAEMONS_STEP,
        HYDRA | {"PMI_SIZE": "1", "PMI_RANK": "0"},
        TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"},
        PLAIN | {"RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        REFUSED["flux run"] | {"FLUX_JOB_SIZE": "1"},
    ],
)
def test_a_world_of_one_rank_is_no_joining(environ: Mapping[str, str]) -> None:
    assert detect("auto", environ) is None


def test_a_world_of_one_rank_is_joined_if_it_is_insisted_on() -> None:
    assert how("env", PLAIN | {"RANK": "0", "WORLD_SIZE": "1"}) == "env"


def test_ports_differ_between_jobs_and_are_equal_on_all_ranks() -> None:
    def port(**changes: str) -> int:
        joined = detect("auto", OPEN_MPI | changes)
        assert joined is not None
        return joined.port

    assert port(OMPI_COMM_WORLD_RANK="0") == port()
    assert port(PMIX_NAMESPACE="4230873090") != port()
    assert port(MASTER_PORT="1234") == 1234
    assert 15000 <= port(PMIX_NAMESPACE="prterun-node0-77@1") < 32000


@pytest.mark.parametrize(
    ("counts", "node", "number"),
    [("2(x3),1", "0", 2), ("2(x3),1", "2", 2), ("2(x3),1", "3", 1), ("4", "0", 4), ("2,3(x2)", "2", 3)],
)
def test_ranks_of_a_host_in_a_step(counts: str, node: str, number: int) -> None:
    joined = detect("slurm", SRUN | {"SLURM_STEP_TASKS_PER_NODE": counts, "SLURM_NODEID": node, "SLURM_LOCALID": "0"})
    assert joined is not None
    assert joined.local_world_size == number


@pytest.mark.parametrize("counts", ["", "many", "2(x1)"])
def test_ranks_of_a_host_that_the_step_does_not_say(counts: str) -> None:
    joined = detect("slurm", SRUN | {"SLURM_STEP_TASKS_PER_NODE": counts, "SLURM_NODEID": "1"})
    assert joined is not None
    assert joined.local_world_size is None


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("", "MASTER_ADDR='' is empty; set it to"),
        (" ", "MASTER_ADDR=' ' is empty"),
        ("node[01-02]", "MASTER_ADDR=node[01-02] is a list of hosts; set it to one, that of rank 0, such as node01"),
        ("a,b", "MASTER_ADDR=a,b is a list of hosts; set it to one, that of rank 0, such as a"),
        ("a, b", "MASTER_ADDR='a, b' is a list of hosts"),
        ("a b", "MASTER_ADDR='a b' has a space in it"),
        ("node0\n", "MASTER_ADDR='node0\\n' has a space in it"),
        ("tcp://node0:29500", "is a URL; set it to the name alone, node0, and MASTER_PORT to the port"),
        ("http://[fd00::1]:80/x", "is a URL; set it to the name alone, [fd00::1]"),
        ("node0:29500", "has a port in it; set MASTER_ADDR=node0 and MASTER_PORT=29500"),
        ("10.0.0.1:", "has a port in it; set MASTER_ADDR=10.0.0.1 and MASTER_PORT=29500"),
        ("[fd00::1]:29500", "has a port in it; set MASTER_ADDR=fd00::1 and MASTER_PORT=29500"),
        ("[fd00::1]", "MASTER_ADDR=[fd00::1] has brackets; write the IPv6 address without them, fd00::1"),
        ("0.0.0.0", "MASTER_ADDR=0.0.0.0 stands for any host"),
        ("::", "MASTER_ADDR=:: stands for any host"),
        ("user@node0", "MASTER_ADDR=user@node0 is not a host name"),
    ],
)
@pytest.mark.parametrize("environ", [PLAIN, TORCHRUN, SRUN, OPEN_MPI, HYDRA])
def test_an_address_that_is_none_is_named(environ: Mapping[str, str], address: str, complaint: str) -> None:
    with pytest.raises(BenchError, match=re.escape(complaint)):
        detect("auto", environ | {"MASTER_ADDR": address})


@pytest.mark.parametrize("address", ["node-0.example.org", "node_0", "10.0.0.1", "fd00::1", "::1", "fe80::1%eth0"])
def test_names_and_addresses_are_taken_as_they_are(address: str) -> None:
    joined = detect("auto", PLAIN | {"MASTER_ADDR": address})
    assert joined is not None
    assert joined.address == address


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999"])
@pytest.mark.parametrize("environ", [PLAIN, TORCHRUN, SRUN, OPEN_MPI, HYDRA])
def test_a_port_that_is_none_is_named(environ: Mapping[str, str], port: str) -> None:
    with pytest.raises(BenchError, match=f"MASTER_PORT={port}: 1 to 65535; "):
        detect("auto", environ | {"MASTER_PORT": port})


@pytest.mark.parametrize("environ", [OPEN_MPI, HYDRA])
def test_a_process_that_bench_started_again_uses_what_bench_set(environ: Mapping[str, str]) -> None:
    joined = detect("auto", environ | {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "15001"})
    assert joined is not None
    assert (joined.address, joined.port, joined.index) == ("10.0.0.7", 15001, 3)


def test_the_page_has_every_launcher_with_its_variables() -> None:
    page = (ROOT / "bench" / "docs" / "clusters.md").read_text(encoding="utf-8")
    lines = {
        row.name: next((x for x in page.splitlines() if x.startswith(f"| {row.program} |")), "") for row in LAUNCHERS
    }
    for row in LAUNCHERS:
        named = {*row.marks, row.rank, row.local_rank} | ({row.world_size} if row.world_size else set())
        assert all(f"`{name}`" in lines[row.name] for name in named), (row.name, lines[row.name])


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
        ("env", OPEN_MPI, "(Open MPI started this process: leave --launcher out)"),
        ("slurm", OPEN_MPI | DAEMONS_STEP, "--launcher slurm: Open MPI started this process"),
        ("mpi", {}, "--launcher mpi: this process is not one of several ranks of Open MPI or Hydra"),
        ("mpi", SRUN, "start with mpirun -n RANKS bench run (slurm started this process: leave --launcher out)"),
        ("auto", without(PLAIN, "MASTER_ADDR"), "RANK=1 and WORLD_SIZE=2 without MASTER_ADDR; set MASTER_ADDR"),
        ("auto", without(PLAIN, "RANK"), "WORLD_SIZE=2 and MASTER_ADDR=head without RANK; set RANK"),
        ("auto", without(PLAIN, "WORLD_SIZE"), "RANK=1 and MASTER_ADDR=head without WORLD_SIZE; set WORLD_SIZE"),
        (
            "auto",
            without(TORCHRUN, "MASTER_ADDR"),
            "MASTER_ADDR is not set in the environment, though its",
        ),
        ("auto", without(OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK"), "OMPI_COMM_WORLD_LOCAL_RANK is not set"),
        ("auto", OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "4"}, "OMPI_COMM_WORLD_RANK=4 with OMPI_COMM_WORLD_SIZE=4"),
        ("auto", PLAIN | {"RANK": "1_0"}, "RANK='1_0' in the environment: a whole number"),
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


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ("gpu[003-005,9]-ib,login1", ["gpu003-ib", "gpu004-ib", "gpu005-ib", "gpu9-ib", "login1"]),
        ("rack[1-2]node[3-4]", ["rack1node3", "rack1node4", "rack2node3", "rack2node4"]),
        ("one", ["one"]),
        ("", []),
    ],
)
def test_all_hosts_of_a_list(nodes: str, hosts: Sequence[str]) -> None:
    assert expand(nodes) == hosts


def test_ranks_fill_the_nodes_of_a_step_one_by_one() -> None:
    assert rank_hosts("n[1-3]", "2(x2),1", "block") == {0: "n1", 1: "n1", 2: "n2", 3: "n2", 4: "n3"}
    assert rank_hosts("n[1-3]", "2(x2),1", "cyclic") == {}
    assert rank_hosts("n[1-3]", "", "") == {}
