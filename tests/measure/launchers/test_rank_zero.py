"""Rank 0's address if the launcher's variables do not say it, with a made-up Hydra and made-up host files."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.measure.launchers import pmi, rank_zero
from bench.measure.launchers.place import LauncherRank
from bench.measure.launchers.rank_zero import locate
from bench.measure.launchers.table import job_port

OPEN_MPI = LauncherRank("Open MPI", 1, 4, 1, "", 20000, False, "77", 2, "", "the job's id")
HYDRA = LauncherRank("Hydra", 0, 2, 0, "", 0, False, "0", 1, "", "")
JOB = "kvs_794_0_1065742137_node0"


@pytest.fixture(autouse=True)
def _known_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host is 10.0.0.7 and has no mpi4py."""
    monkeypatch.setattr(rank_zero, "own_address", lambda environ: "10.0.0.7")
    monkeypatch.setattr(rank_zero, "is_own", lambda address: address in ("10.0.0.7", "127.0.0.1", "::1"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "mpi4py" else find(name, *a))


def test_given_addresses_are_used_as_they_are() -> None:
    given = replace(OPEN_MPI, address="head", address_from="MASTER_ADDR")
    assert locate(given, {}) == given
    slurm = replace(OPEN_MPI, how="slurm", address="node1", address_from="SLURM_STEP_NODELIST")
    assert locate(slurm, {}) == slurm


@pytest.mark.parametrize("how", ["Open MPI", "slurm"])
def test_on_one_host_it_is_loopback(how: str) -> None:
    joined = replace(OPEN_MPI, how=how, address="node1" if how == "slurm" else "", local_world_size=4)
    found = locate(replace(joined, address_from="SLURM_STEP_NODELIST"), {})
    assert (found.address, found.address_from, found.port) == ("127.0.0.1", "one host", 20000)


@pytest.mark.parametrize("variable", ["PBS_NODEFILE", "LSB_DJOB_HOSTFILE", "OMPI_MCA_orte_default_hostfile"])
def test_the_first_host_of_a_host_file(variable: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# hosts\n\nnode3 slots=2\nnode4 slots=2\n")
    found = locate(OPEN_MPI, {variable: str(file), "SLURM_JOB_NODELIST": "node[7-8]"})
    assert (found.address, found.address_from) == ("node3", variable)


@pytest.mark.parametrize("text", ["node3:4\n", "node3\n"])
def test_slots_are_no_part_of_a_host(text: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(text)
    assert locate(OPEN_MPI, {"PBS_NODEFILE": str(tmp_path / "hosts")}).address == "node3"


def test_a_file_that_is_not_there_or_empty_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    environ = {
        "PBS_NODEFILE": str(tmp_path / "gone"),
        "LSB_DJOB_HOSTFILE": str(tmp_path / "empty"),
        "SLURM_JOB_NODELIST": "node[7-8]",
    }
    assert locate(OPEN_MPI, environ).address == "node7"


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("4230873088.0;tcp://10.0.0.7:51031", "10.0.0.7"),
        ("4230873088.0;tcp://10.0.0.7,10.8.8.1:42127;tcp6://[fd00::2]:47933", "10.0.0.7"),
        ("4230873088.0;tcp6://[::1]:47933", "::1"),
    ],
)
def test_mpirun_s_own_address_is_the_last_guess(uri: str, address: str) -> None:
    found = locate(replace(OPEN_MPI, index=0), {"OMPI_MCA_orte_hnp_uri": uri})
    assert (found.address, found.address_from) == (address, "mpirun's address")


def test_a_wrong_guess_stops_with_the_option_to_type() -> None:
    environ = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:51031"}
    with pytest.raises(BenchError) as caught:
        locate(replace(OPEN_MPI, index=0), environ)
    assert str(caught.value) == (
        "10.0.0.1 by mpirun's address is not the host of rank 0; type: mpirun -x MASTER_ADDR=10.0.0.7 ... bench run"
    )
    assert locate(OPEN_MPI, environ).address == "10.0.0.1"  # rank 0 alone can see it


@pytest.mark.parametrize(
    ("joined", "option"),
    [(OPEN_MPI, "mpirun -x MASTER_ADDR="), (replace(HYDRA, index=1), "mpiexec.hydra -genv MASTER_ADDR ")],
)
def test_without_a_source_it_stops_with_the_option_to_type(joined: LauncherRank, option: str) -> None:
    with pytest.raises(BenchError, match=re.escape(f"; type: {option}10.0.0.7 ... bench run")):
        locate(replace(joined, index=0), {})
    with pytest.raises(
        BenchError, match=re.escape(f"; type: {option}HOST ... bench run, with the name of rank 0's host")
    ):
        locate(joined, {})


def test_an_mpi4py_of_another_mpi_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is alone in a world of its own; or it cannot be imported."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: object())
    package = tmp_path / "mpi4py"
    package.mkdir()
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "SLURM_JOB_NODELIST": "node[7-8]"}
    world = "class MPI:\n    class COMM_WORLD:\n        Get_size = staticmethod(lambda: {size})\n        " \
        "Get_rank = staticmethod(lambda: {rank})\n        bcast = staticmethod(lambda text: '10.0.0.3')\n"  # fmt: skip
    (package / "__init__.py").write_text(world.format(size=1, rank=0))
    assert locate(OPEN_MPI, environ).address == "node7"
    (package / "__init__.py").write_text("raise ImportError('libmpi.so.12')")
    assert locate(OPEN_MPI, environ).address == "node7"
    (package / "__init__.py").write_text(world.format(size=4, rank=1))
    found = locate(OPEN_MPI, environ)
    assert (found.address, found.address_from) == ("10.0.0.3", "mpi4py")


class FakeHydra:
    """Hydra's side of PMI-1 for one rank, with the texts of all."""

    def __init__(self, texts: dict[str, str], deaf_to: str = "", refuses: str = "") -> None:
        self.texts, self.deaf_to, self.refuses = texts, deaf_to, refuses
        self.heard: list[str] = []
        self.server, self.client = socket.socketpair()
        self.thread = threading.Thread(target=self._serve, args=(self.server,))
        self.thread.start()

    def _serve(self, connection: socket.socket) -> None:
        answers: dict[str, Callable[[dict[str, str]], str]] = {
            "initack": lambda words: "cmd=initack rc=0\ncmd=set size=2\ncmd=set rank=0\ncmd=set debug=0",
            "init": lambda words: "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
            "get_my_kvsname": lambda words: f"cmd=my_kvsname kvsname={JOB}",
            "put": self._put,
            "barrier_in": lambda words: "cmd=barrier_out",
            "get": lambda words: f"cmd=get_result rc=0 msg=success value={self.texts[words['key']]}",
            "finalize": lambda words: "cmd=finalize_ack",
        }
        with connection, connection.makefile("w") as lines, connection.makefile("r") as asked:
            for line in asked:
                words = dict(word.partition("=")[::2] for word in line.split())
                self.heard.append(words["cmd"])
                if words["cmd"] == self.refuses:
                    lines.write("cmd=put_result rc=-1 msg=key_too_long\n")
                elif words["cmd"] != self.deaf_to:
                    lines.write(answers[words["cmd"]](words) + "\n")
                lines.flush()

    def _put(self, words: dict[str, str]) -> str:
        self.texts[words["key"]] = words["value"]
        return "cmd=put_result rc=0 msg=success"

    def close(self) -> None:
        self.client.close()
        self.thread.join()


@pytest.fixture
def hydras() -> Iterator[list[FakeHydra]]:
    started: list[FakeHydra] = []
    yield started
    for hydra in started:
        hydra.close()


def test_hydra_s_ranks_learn_the_address_from_rank_0(hydras: list[FakeHydra]) -> None:
    texts: dict[str, str] = {}
    for index in (0, 1):
        hydras.append(FakeHydra(texts))
        environ = {"PMI_FD": str(hydras[-1].client.fileno()), "PMI_RANK": str(index)}
        found = locate(replace(HYDRA, index=index), environ)
        assert (found.address, found.address_from) == ("10.0.0.7", "PMI")
        assert (found.port, found.attempt) == (job_port(JOB), JOB)
    assert hydras[0].heard == ["init", "get_my_kvsname", "put", "barrier_in", "get", "finalize"]
    assert hydras[1].heard == ["init", "get_my_kvsname", "barrier_in", "get", "finalize"]


@pytest.mark.parametrize("address", ["", "head"])
def test_hydra_on_one_host_or_with_an_address_is_asked_for_the_job_alone(address: str, hydras: list[FakeHydra]) -> None:
    hydras.append(FakeHydra({}))
    joined = replace(HYDRA, address=address, address_from="MASTER_ADDR", local_world_size=None if address else 2)
    found = locate(joined, {"PMI_FD": str(hydras[0].client.fileno()), "PMI_RANK": "0"})
    assert (found.address, found.port) == (address or "127.0.0.1", job_port(JOB))
    assert hydras[0].heard == ["init", "get_my_kvsname", "finalize"]


def test_hydra_at_a_port_is_asked_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        hydra = FakeHydra({})
        thread = threading.Thread(target=lambda: hydra._serve(server.accept()[0]))
        thread.start()
        environ = {"PMI_PORT": f"127.0.0.1:{server.getsockname()[1]}", "PMI_ID": "0", "PMI_RANK": "0"}
        assert locate(HYDRA, environ).address == "10.0.0.7"
        thread.join()
        hydra.close()
    assert hydra.heard[0] == "initack"


def test_a_rank_that_does_not_ask_is_not_waited_for_without_end(hydras: list[FakeHydra]) -> None:
    hydras.append(FakeHydra({}, deaf_to="barrier_in"))
    environ = {"PMI_FD": str(hydras[0].client.fileno()), "PMI_RANK": "0"}
    with pytest.raises(BenchError, match=r"did not answer `barrier_in` within 0.05 s: not all of its ranks asked"):
        locate(HYDRA, environ, seconds=0.05)


def test_a_hydra_that_refuses_or_is_gone_is_said(hydras: list[FakeHydra]) -> None:
    hydras.append(FakeHydra({}, refuses="put"))
    environ = {"PMI_FD": str(hydras[0].client.fileno()), "PMI_RANK": "0"}
    with pytest.raises(BenchError, match=r"Hydra refused `put` \(key_too_long\)"):
        locate(HYDRA, environ)
    ours, theirs = socket.socketpair()
    theirs.close()
    with closing(ours), pytest.raises(BenchError, match="Hydra closed its connection at `init`"):
        locate(HYDRA, {"PMI_FD": str(ours.fileno()), "PMI_RANK": "0"})


def test_a_socket_that_is_no_longer_hydra_s_is_not_used(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        assert not pmi.is_here({"PMI_FD": str(file.fileno())})
        found = locate(replace(HYDRA, local_world_size=2), {"PMI_FD": str(file.fileno())})
    assert (found.address, found.port, found.port_from) == ("127.0.0.1", 29500, "the default")
    assert not pmi.is_here({"PMI_FD": "-1"})
    assert not pmi.is_here({})


def test_the_sources_that_need_all_ranks_are_only_named_to_the_doctor(
    hydras: list[FakeHydra], monkeypatch: pytest.MonkeyPatch
) -> None:
    hydras.append(FakeHydra({}))
    environ = {"PMI_FD": str(hydras[0].client.fileno()), "PMI_RANK": "0"}
    found = locate(HYDRA, environ, exchanges=False)
    assert (found.address, found.port, found.address_from) == ("", 0, "PMI")
    found = locate(replace(HYDRA, local_world_size=2), environ, exchanges=False)
    assert (found.address, found.port) == ("127.0.0.1", 0)
    assert hydras[0].heard == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: object())
    assert locate(OPEN_MPI, {}, exchanges=False).address_from == "mpi4py"
