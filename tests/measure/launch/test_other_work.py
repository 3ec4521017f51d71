"""Other programs on the machine: what counts as in the way, who is named, and how a run that is to judge ends then."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.core import exit_codes
from bench.errors import BenchError
from bench.measure.launch import other_work
from bench.measure.launch.other_work import (
    Activity,
    Identity,
    OtherWork,
    ProcessTime,
    compare_readings,
    gpu_programs,
    measure_other_work,
    publish,
    read_host,
    read_published,
    refuse_busy,
    to_finding,
)
from bench.measure.launchers.place import Place
from bench.measure.system.nvml import GpuFacts
from tests.support.command import BENCH, SUITES, TORCHRUN, call, saved, start

TINY = str(SUITES / "tiny.py")
LOOP = [sys.executable, "-c", "while True: pass"]


def reading(at: float, busy: float | None, used: Mapping[Identity, tuple[str, float]], *own: int) -> Activity:
    return Activity(at, busy, {key: ProcessTime(*each) for key, each in used.items()}, frozenset(own))


def test_what_the_cores_did_less_what_the_run_did_is_the_work_of_others() -> None:
    before = reading(10.0, 100.0, {(1, 0.0): ("bench", 5.0), (2, 0.0): ("python", 7.0), (3, 0.0): ("idle", 1.0)}, 1)
    late = {(1, 0.0): ("bench", 5.4), (2, 0.0): ("python", 8.0), (3, 0.0): ("idle", 1.0)}
    late |= {(4, 11.0): ("python", 0.6), (5, 11.5): ("child", 0.2)}  # born meanwhile; 5 is a child of the run
    found = compare_readings(before, reading(12.0, 103.6, late, 1, 5), "node7", 4)
    # 3.6 s of CPU time in 2 s, less 0.6 s of its own; the pythons took 1.6 s, and 1.4 s cannot be told.
    assert found.busy_cores == pytest.approx(1.5)
    assert found.programs == (("python", pytest.approx(0.8)),)
    assert found.text() == "1.5 of 4 cores (python 0.8 cores, short-lived or unseen processes 0.7 cores)"


def test_a_number_that_is_used_again_is_another_process() -> None:
    before = reading(0.0, None, {(2, 0.0): ("old", 90.0)})
    found = compare_readings(before, reading(1.0, None, {(2, 0.5): ("new", 0.5)}), "node7", 2)
    assert found.programs == (("new", 0.5),)
    assert found.busy_cores == 0.5  # nothing told of the cores: as far as processes are seen


def test_a_kernel_that_steps_back_gives_no_less_than_nothing() -> None:
    before, after = reading(0.0, 10.0, {(2, 0.0): ("a", 3.0)}), reading(1.0, 9.9, {(2, 0.0): ("a", 2.9)})
    assert compare_readings(before, after, "node7", 2) == OtherWork("node7", 2, 0.0)
    assert (
        compare_readings(before, reading(1.0, 90.0, {}), "node7", 2).busy_cores == 2
    )  # nobody uses more than there is


@pytest.mark.parametrize(
    ("cores", "num_cores", "busy"),
    [(0.5, 2, False), (0.51, 2, True), (6.4, 64, False), (6.5, 64, True), (0.4, 1, False)],
)
def test_busy_is_above_half_a_core_and_a_tenth_of_them(cores: float, num_cores: int, busy: bool) -> None:
    found = OtherWork("node7", num_cores, cores)
    assert found.is_busy is busy
    assert to_finding(found).level == ("warn" if busy else "ok")


def test_the_refusal_names_programs_and_among_several_the_host() -> None:
    quiet = OtherWork("node6", 2, 0.1, 0.2)
    programs = (("python", 1.5), ("cc1plus", 0.3), ("sshd", 0.1), ("bash", 0.06))
    busy = OtherWork("node7", 2, 1.9, 10.2, programs)
    refuse_busy([quiet])
    with pytest.raises(BenchError) as caught:
        refuse_busy([busy])
    assert str(caught.value) == (
        "cannot judge: other programs use 1.9 of 2 cores (load 10.2: python 1.5 cores, cc1plus 0.3 cores, sshd 0.1 "
        "cores). Stop them, or pass --busy to measure all the same"
    )
    with pytest.raises(BenchError, match=r"^cannot judge: on node7 other programs use 1\.9 of 2 cores"):
        refuse_busy([quiet, busy])


def test_a_process_on_a_gpu_is_in_the_way_unless_it_is_of_the_run() -> None:
    gpus = [
        GpuFacts(index=0, name="H100", process_ids=(os.getpid(),)),
        GpuFacts(index=3, name="H100", process_ids=(1,)),
    ]
    (named,) = gpu_programs(gpus, [os.getpid()])
    assert named.endswith("on GPU 3")
    assert "1" in named
    with pytest.raises(BenchError, match="on GPU 3 is at work"):
        refuse_busy([OtherWork("node7", 64, 0.1, on_gpus=(named,))])
    assert gpu_programs([GpuFacts(index=0, name="H100")], []) == ()  # the driver does not tell


class Dictionary:
    """A store in one process; `get` waits, as torch's does."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.changed = threading.Condition()

    def set(self, key: str, value: str) -> None:
        with self.changed:
            self.texts[key] = value
            self.changed.notify_all()

    def get(self, key: str) -> bytes:
        with self.changed:
            assert self.changed.wait_for(lambda: key in self.texts, timeout=20)
            return self.texts[key].encode()

    def add(self, key: str, amount: int) -> int:
        raise NotImplementedError

    def check(self, keys: object) -> bool:
        raise NotImplementedError


def test_the_first_rank_of_each_host_looks_and_rank_0_hears_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[str, int]] = []

    def seen(own: list[int], name: str) -> OtherWork:
        looked.append((name, len(own)))
        return OtherWork(name, 2, 2.0 if name == "node1" else 0.0, 1.0, (("cc1", 1.5),), ("x (7) on GPU 0",))

    monkeypatch.setattr(other_work, "measure_other_work", seen)
    store, hosts = Dictionary(), ["node0", "node1", "node1"]
    places = [Place(0, 3, 0, 1), Place(1, 3, 0, 2), Place(2, 3, 1, 2)]
    threads = [threading.Thread(target=publish, args=(place, hosts, store, False)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(looked) == [("node0", 1), ("node1", 2)]
    quiet, busy = read_published(hosts, store)
    assert (quiet.host, busy.host, busy.busy_cores) == ("node0", "node1", 2.0)
    assert busy.programs == (("cc1", 1.5),)


@pytest.fixture
def two_loops() -> Iterator[list[int]]:
    """Two programs that do only use a core each."""
    loops = [subprocess.Popen(LOOP) for _ in range(2)]
    yield [loop.pid for loop in loops]
    for loop in loops:
        loop.kill()
        loop.wait()


def test_busy_loops_are_seen_and_what_the_run_itself_started_is_its_own(two_loops: list[int]) -> None:
    # To a run that this process is no part of, the loops are others.
    name = Path(f"/proc/{two_loops[0]}/comm").read_text().strip()
    found = measure_other_work([], "here")
    assert dict(found.programs)[name] > 0
    assert found.is_busy
    assert set(two_loops) <= read_host([os.getpid()]).own
    assert not set(two_loops) & read_host([]).own


@pytest.mark.seeded
def test_a_run_that_is_to_judge_ends_at_once_on_a_busy_machine(two_loops: list[int], tmp_path: Path) -> None:
    done = call("run", TINY, "--preset", "node", "-o", str(tmp_path))
    assert done.returncode == exit_codes.USAGE
    (line,) = done.stderr.splitlines()
    assert line.startswith("bench: error: cannot judge: other programs use ")
    assert line.endswith("Stop them, or pass --busy to measure all the same")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.seeded
@pytest.mark.long
def test_it_measures_all_the_same_where_told_to_and_the_file_says_so(two_loops: list[int], tmp_path: Path) -> None:
    done = call("run", TINY, "--preset", "node", "--busy", "-o", str(tmp_path))
    file = saved(tmp_path)
    assert file.statuses() == dict.fromkeys(("first", "second", "third"), "ok"), done.stderr
    assert file.header["plan"]["options"]["busy"] is True
    (told,) = [each for each in file.header["doctor"]["findings"] if each["what"].startswith("other programs")]
    assert told["level"] == "warn"


@pytest.mark.launchers
@pytest.mark.seeded
def test_a_joined_run_ends_on_all_ranks_and_rank_0_says_it_once(two_loops: list[int], tmp_path: Path) -> None:
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--no-python", *BENCH, "run", TINY, "--preset", "node"]
    process = start([*command, "-o", str(tmp_path)], launcher=True)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1  # torchrun makes 1 of every child's code
    assert errors.count("cannot judge: other programs use ") == 1
    file = saved(tmp_path)
    assert file.measurements == []
    assert file.end is not None
    assert file.end["exit_code"] == exit_codes.USAGE
    assert file.end["reason"].startswith("cannot judge: other programs use ")


def test_busy_means_nothing_where_nothing_is_judged(tmp_path: Path) -> None:
    done = call("run", TINY, "--preset", "smoke", "--busy", "-o", str(tmp_path))
    assert done.returncode == exit_codes.USAGE
    assert "--busy" in done.stderr.splitlines()[-1]
