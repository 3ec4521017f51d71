"""Other programs at work on this host, found before anything is measured: a busy machine cannot be judged.

CPU time is read twice, about a second apart: of the cores that this process may use, and of every process. What the
cores did less what this run's own processes took is the work of others, whether or not their processes can be seen:
some end within the second, and some belong to other containers. On GPUs it is every other process that computes there.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import psutil

from bench.core import clock
from bench.errors import BenchError
from bench.measure.engine.store import Store
from bench.measure.launchers.place import Place
from bench.measure.system import host
from bench.measure.system.nvml import GpuFacts
from bench.records.lines.parts import Finding

WINDOW_SECONDS = 1.0
BUSY_CORES, BUSY_SHARE = 0.5, 0.10
"""A host is busy if others use more than both: half a core, and a tenth of the cores that this process may use. A
few background services stay below either; kernels that count time in ticks get a second wrong by a few percent."""
SHOWN = 3
"""Programs that a line names."""
LEAST_SHOWN_CORES = 0.05

Identity = tuple[int, float]
"""Number and time of birth of a process: numbers are used again."""


@dataclass(frozen=True)
class ProcessTime:
    """CPU time that a process has had since its birth."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Activity:
    """A reading of CPU times at one moment."""

    at_seconds: float
    busy_seconds: float | None
    """CPU time since boot, in processes, of the cores that this process may use; None: not known."""
    processes: Mapping[Identity, ProcessTime]
    own: frozenset[int] = frozenset()
    """Numbers of this run's processes."""


@dataclass(frozen=True)
class OtherWork:
    """Work of other programs on one host."""

    host: str
    num_cores: int
    """Cores that this run may use."""
    busy_cores: float
    """Cores' worth of them that others use."""
    load: float | None = None
    """Load average over one minute."""
    programs: tuple[tuple[str, float], ...] = ()
    """(name, cores), the largest first; what others use beyond these could not be seen."""
    on_gpus: tuple[str, ...] = ()
    """Programs on GPUs, such as `python (4711) on GPU 0`."""

    @property
    def is_busy(self) -> bool:
        return bool(self.reasons())

    @property
    def _is_cpu_busy(self) -> bool:
        return self.busy_cores > max(BUSY_CORES, BUSY_SHARE * self.num_cores)

    def text(self) -> str:
        """Cores in use, the load, and the programs that use most, in words."""
        named = [f"{name} {cores:.1f} cores" for name, cores in self.programs if cores >= LEAST_SHOWN_CORES][:SHOWN]
        unseen = self.busy_cores - sum(cores for _, cores in self.programs)
        if unseen > max(LEAST_SHOWN_CORES, BUSY_SHARE * self.busy_cores):
            named.append(f"short-lived or unseen processes {unseen:.1f} cores")
        load = [] if self.load is None else [f"load {self.load:.1f}"]
        details = ": ".join([*load, *([", ".join(named)] if named else [])])
        cores = "1 core" if self.num_cores == 1 else f"{self.num_cores} cores"
        return f"{self.busy_cores:.1f} of {cores}" + (f" ({details})" if details else "")

    def reasons(self) -> list[str]:
        """Reasons for which this host cannot be judged; empty if it is quiet."""
        cpu = [f"other programs use {self.text()}"] if self._is_cpu_busy else []
        return [*cpu, *(f"{program} is at work" for program in self.on_gpus)]


def refuse_busy(hosts: Sequence[OtherWork]) -> None:
    """Raises BenchError if a host is busy, with what is in the way on each such host."""
    several = len({work.host for work in hosts}) > 1
    reasons = [
        f"on {work.host} {'; '.join(work.reasons())}" if several else "; ".join(work.reasons())
        for work in hosts
        if work.is_busy
    ]
    if reasons:
        raise BenchError(f"cannot judge: {'; '.join(reasons)}. Stop them, or pass --busy to measure all the same")


def measure_other_work(
    own_pids: Collection[int], host_name: str, read: Callable[[Collection[int]], Activity] | None = None
) -> OtherWork:
    """Measure for about a second what others do on this host; `own_pids` and their children are this run's own."""
    read = read_host if read is None else read
    before = read(own_pids)
    clock.wait_seconds(WINDOW_SECONDS)
    after = read(own_pids)
    loads = host.load_averages()
    return replace(compare_readings(before, after, host_name, _num_cores()), load=loads[0] if loads else None)


def compare_readings(before: Activity, after: Activity, host_name: str, num_cores: int) -> OtherWork:
    """Compute from two readings what others did meanwhile."""
    seconds = after.at_seconds - before.at_seconds
    own_cores, programs = 0.0, defaultdict[str, float](float)
    for identity, late in after.processes.items():
        early = before.processes.get(identity)
        cores = max(0.0, late.seconds - (0.0 if early is None else early.seconds)) / seconds
        if identity[0] in after.own | before.own:
            own_cores += cores
        elif cores > 0:
            programs[late.name] += cores
    busy = sum(programs.values())
    if before.busy_seconds is not None and after.busy_seconds is not None:
        busy = max(0.0, (after.busy_seconds - before.busy_seconds) / seconds - own_cores)
    return OtherWork(host_name, num_cores, min(busy, float(num_cores)), programs=_largest_first(programs))


def _largest_first(programs: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(programs.items(), key=lambda program: -program[1]))


def read_host(own_pids: Collection[int]) -> Activity:
    """This host now."""
    cores = host.cpu_affinity()
    processes = {}
    for process in psutil.process_iter(["name", "cpu_times", "create_time"]):
        times = process.info["cpu_times"]
        if times is not None:
            used = ProcessTime(process.info["name"] or f"process {process.pid}", times.user + times.system)
            processes[(process.pid, process.info["create_time"])] = used
    per_core = psutil.cpu_times(percpu=True)
    chosen = per_core if cores is None else [per_core[core] for core in cores if core < len(per_core)]
    # Interrupts are left out: those for a run's own messages are charged to no process.
    busy = sum(times.user + times.system + getattr(times, "nice", 0.0) for times in chosen)
    return Activity(clock.monotonic_seconds(), busy or None, processes, process_tree(own_pids))


def process_tree(roots: Collection[int]) -> frozenset[int]:
    """Numbers of these processes and of all their descendants."""
    pids = set(roots)
    for pid in roots:
        try:
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            continue
    return frozenset(pids)


def _num_cores() -> int:
    return len(host.cpu_affinity() or range(os.cpu_count() or 1))


def gpu_programs(gpus: Sequence[GpuFacts], own_pids: Collection[int]) -> tuple[str, ...]:
    """The processes that compute on these GPUs and are not of this run."""
    own_tree = process_tree(own_pids)
    return tuple(
        f"{_program_name(pid)} on GPU {gpu.index}"
        for gpu in gpus
        for pid in gpu.process_ids or ()
        if pid not in own_tree
    )


def _program_name(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} ({pid})"
    except psutil.Error:  # of another container, or gone
        return f"process {pid}"


def add_gpu_programs(work: OtherWork, own_pids: Collection[int]) -> OtherWork:
    """Return the work with other programs on the GPUs that torch sees. Imports torch."""
    from bench.measure.doctor.facts import gather

    return replace(work, on_gpus=gpu_programs(gather().gpus, own_pids))


def publish(place: Place, hosts: Sequence[str], store: Store, has_gpus: bool) -> None:
    """Publish in the store what others do, on every rank of a joined run: the first rank of each host looks.

    All ranks call it at once, when none of them is at work yet.
    """
    store.set(f"other_work/process/{place.index}", str(os.getpid()))
    if place.local_index == 0:
        name = hosts[place.index]
        own_pids = [
            int(store.get(f"other_work/process/{rank}")) for rank, rank_host in enumerate(hosts) if rank_host == name
        ]
        work = measure_other_work(own_pids, name)
        work = add_gpu_programs(work, own_pids) if has_gpus else work
        store.set(f"other_work/host/{name}", msgspec.json.encode(work).decode())


def read_published(hosts: Iterable[str], store: Store) -> list[OtherWork]:
    """Read on rank 0 what the hosts' first ranks published, host by host."""
    texts = [store.get(f"other_work/host/{name}") for name in dict.fromkeys(hosts)]
    return [msgspec.json.decode(text, type=OtherWork) for text in texts]


def to_finding(work: OtherWork) -> Finding:
    """Make a host's entry among the doctor's findings."""
    what = f"other programs on {work.host}"
    if not work.is_busy:
        return Finding("ok", what, f"they use {work.text()}")
    return Finding("warn", what, "; ".join(work.reasons()), "they are in the way: stop them")
