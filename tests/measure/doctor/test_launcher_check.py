"""The doctor's look at the launcher: what would be joined, whether rank 0's name resolves, whether its port is free."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest

from bench.measure.doctor import launcher_check
from bench.measure.doctor.launcher_check import check_launcher, look
from bench.measure.launchers.endpoint import listen
from bench.measure.launchers.table import detect

PLAIN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
AGENT = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


def lines(environ: Mapping[str, str]) -> list[str]:
    return [finding.line() for finding in check_launcher(look(environ))]


@pytest.fixture
def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield str(server.getsockname()[1])


def test_without_a_launcher_the_ranks_are_started_here() -> None:
    assert lines({}) == ["ok: launcher: none: bench run starts its own ranks"]
    assert lines(PLAIN | {"WORLD_SIZE": "1"}) == lines({})


def test_rank_0_s_host_has_the_port_free(port: str) -> None:
    (line,) = lines(PLAIN | {"MASTER_PORT": port})
    assert line == (
        "ok: launcher: would join rank 0 of 2, started by RANK and WORLD_SIZE, "
        f"at 127.0.0.1:{port}, port free"
    )  # fmt: skip
    with closing(socket.create_server(("127.0.0.1", int(port)))):  # it was not kept
        pass


def test_another_rank_says_where_it_would_go_and_leaves_the_port_alone(taken: str) -> None:
    (line,) = lines(PLAIN | {"RANK": "1", "MASTER_PORT": taken})
    assert line == f"ok: launcher: would join rank 1 of 2, started by RANK and WORLD_SIZE, at 127.0.0.1:{taken}"


def test_a_taken_port_fails_with_its_holder(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_check.os, "getpid", lambda: 1)
    (line,) = lines(PLAIN | {"MASTER_PORT": taken})
    assert line.startswith("fail: launcher: would join rank 0 of 2, ")
    assert f"at 127.0.0.1:{taken}: MASTER_PORT={taken} is taken on " in line
    assert "; end that process if" in line


def test_the_port_that_this_very_run_holds_is_right(port: str) -> None:
    environ = PLAIN | {"MASTER_PORT": port}
    joined = detect("auto", environ)
    assert joined is not None
    with closing(listen(joined)):
        (line,) = lines(environ)
    assert line.endswith("port held by this run")
    assert line.startswith("ok: ")


def test_the_port_of_torchrun_s_agent_is_rightly_held(taken: str) -> None:
    line, wait = lines(PLAIN | AGENT | {"MASTER_PORT": taken})
    assert line == f"ok: launcher: would join rank 0 of 2, started by torchrun, at 127.0.0.1:{taken}, port held by " \
        "torchrun's agent"  # fmt: skip
    assert "--rdzv-conf timeout=SECONDS" in wait
    assert "join_timeout=SECONDS" in wait


def test_an_agent_that_does_not_answer_fails(port: str) -> None:
    line, _ = lines(PLAIN | AGENT | {"MASTER_PORT": port})
    assert line.startswith("fail: launcher: would join rank 0 of 2, started by torchrun, ")
    assert "torchrun's agent does not answer" in line
    assert "(refused: " in line


def test_a_list_of_nodes_fails_with_the_rank_and_the_remedy() -> None:
    assert lines(PLAIN | {"MASTER_ADDR": "node[01-02]", "MASTER_PORT": "29500"}) == [
        "fail: launcher: would join rank 0 of 2, started by RANK and WORLD_SIZE, and stops: MASTER_ADDR=node[01-02] is "
        "a list of hosts; set it to one, that of rank 0, such as node01"
    ]


def test_a_name_that_does_not_resolve_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_check, "RESOLVE_SECONDS", 0.0)
    (line,) = lines(PLAIN | {"RANK": "1", "MASTER_ADDR": "a..b"})
    assert line.startswith("fail: launcher: would join rank 1 of 2, started by RANK and WORLD_SIZE, at a..b:29500: ")
    assert "cannot resolve the name" in line
    assert "; set MASTER_ADDR to an address of rank 0's host" in line


def test_an_incomplete_environment_fails() -> None:
    (line,) = lines({"RANK": "0", "WORLD_SIZE": "2"})
    assert line.startswith("fail: launcher: bench run stops: RANK=0 and WORLD_SIZE=2 without MASTER_ADDR")


def test_mpi_on_one_host_meets_on_loopback(port: str) -> None:
    (line,) = lines(OPEN_MPI | {"MASTER_PORT": port})
    assert line == f"ok: launcher: would join rank 0 of 2, started by mpirun (Open MPI), at 127.0.0.1:{port}, port free"


def test_a_launcher_that_is_not_joined_fails_with_what_to_type() -> None:
    (line,) = lines({"PALS_RANKID": "1", "PALS_LOCAL_RANKID": "1", "PMI_SIZE": "2"})
    assert line.startswith("fail: launcher: bench run stops: ranks of mpiexec (PALS) are not joined as they are")
    assert "; type: mpiexec ... bash -c 'RANK=$PALS_RANKID " in line
