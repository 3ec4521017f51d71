"""NUMA nodes from trees of files, and where the kernel of this machine says that pages are."""

from __future__ import annotations

import ctypes
import mmap
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measure.system.memory import numa, page_nodes


def make_host(
    root: Path,
    nodes: dict[int, str],
    distances: dict[int, str],
    memory_kib: dict[int, int] | None = None,
    allowed: str | None = None,
) -> Path:
    """A root with these nodes, each with its list of cores, its row of distances and 1 GiB, unless it is said."""
    for node, cores in nodes.items():
        folder = root / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cores + "\n")
        (folder / "distance").write_text(distances[node] + "\n")
        (folder / "meminfo").write_text(f"Node {node} MemTotal:  {(memory_kib or {}).get(node, 2**20)} kB\n")
    if allowed is not None:
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/status").write_text(f"Name:\tpython\nMems_allowed_list:\t{allowed}\n")
    return root


def test_two_sockets(tmp_path: Path) -> None:
    found = numa.topology(make_host(tmp_path, {0: "0-1,4", 1: "2-3"}, {0: "10 21", 1: "21 10"}, allowed="0-1"))
    assert found.cores == {0: {0, 1, 4}, 1: {2, 3}}
    assert found.distances == {(0, 0): 10, (0, 1): 21, (1, 0): 21, (1, 1): 10}
    assert found.with_memory() == (0, 1)
    assert (found.farthest_from(0), found.farthest_from(1)) == (1, 0)
    assert found.of_cores([4]) == (0,)
    assert found.of_cores([1, 2]) == (0, 1)


def test_the_farthest_of_four_is_on_the_other_socket(tmp_path: Path) -> None:
    rows = {0: "10 11 21 22", 1: "11 10 21 22", 2: "21 21 10 11", 3: "22 22 11 10"}
    found = numa.topology(make_host(tmp_path, {node: str(node) for node in rows}, rows))
    assert [found.farthest_from(node) for node in rows] == [3, 3, 0, 0]


def test_memory_of_a_gpu_is_no_node(tmp_path: Path) -> None:
    """On a Grace Hopper the GPU's memory is a node without cores, and counts in the rows of distances."""
    nodes, rows = {0: "0-71", 1: "", 2: "72-143"}, {0: "10 80 40", 1: "80 10 80", 2: "40 80 10"}
    found = numa.topology(make_host(tmp_path, nodes, rows))
    assert list(found.cores) == [0, 2]
    assert found.farthest_from(0) == 2
    assert found.distances[0, 2] == 40


@pytest.mark.parametrize(
    ("memory_kib", "allowed"), [({1: 0}, None), (None, "0")], ids=["a node without memory", "a cpuset"]
)
def test_memory_that_cannot_be_had_is_not_far(
    tmp_path: Path, memory_kib: dict[int, int] | None, allowed: str | None
) -> None:
    host = make_host(tmp_path, {0: "0", 1: "1"}, {0: "10 21", 1: "21 10"}, memory_kib, allowed)
    assert numa.topology(host).with_memory() == (0,)
    assert numa.topology(host).farthest_from(0) is None


def test_a_host_that_shows_no_nodes(tmp_path: Path) -> None:
    found = numa.topology(tmp_path)
    assert found.with_memory() == ()
    assert found.farthest_from(0) is None


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(10, 255), min_size=5, max_size=5), min_size=5, max_size=5), st.integers(0, 4))
def test_no_other_node_is_farther_than_the_farthest(rows: list[list[int]], node: int) -> None:
    distances = {(a, b): rows[a][b] for a in range(5) for b in range(5)}
    known = numa.Topology({each: frozenset({each}) for each in range(5)}, distances)
    far = known.farthest_from(node)
    assert far is not None
    assert far != node
    assert distances[node, far] == max(distances[node, other] for other in range(5) if other != node)


def _pages(count: int) -> tuple[mmap.mmap, int]:
    mapping = mmap.mmap(-1, count * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mapping, ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def test_this_kernel_puts_pages_where_it_says_that_they_are() -> None:
    node = next(iter(numa.topology().with_memory()), None)
    if node is None:
        pytest.skip("the kernel shows no NUMA nodes")
    mapping, address = _pages(7)
    refused = page_nodes.bind_pages(address, len(mapping), node)
    if refused:
        pytest.skip(f"mbind: {refused}")
    addresses = range(address, address + len(mapping), mmap.PAGESIZE)
    untouched = page_nodes._asked(addresses)
    mapping.write(bytes(range(1, 8)) * mmap.PAGESIZE)
    assert untouched is None
    assert page_nodes.count_nodes(addresses) in (Counter({node: 7}), None)


def test_neighbouring_mappings_are_listed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("the kernel has no /proc/self/numa_maps")
    monkeypatch.setattr(page_nodes, "_refused", lambda *_arguments: "Operation not permitted")
    made = [_pages(count + 2) for count in (3, 4, 5)]
    for mapping, address in made:
        page_nodes.fence(address, len(mapping))
        ctypes.memset(address + mmap.PAGESIZE, 1, len(mapping) - 2 * mmap.PAGESIZE)
    found = [page_nodes.count_nodes([address + mmap.PAGESIZE]) for _, address in made]
    assert [each and each.total() for each in found] == [3, 4, 5]


def test_a_node_that_is_not_there_is_refused() -> None:
    mapping, address = _pages(1)
    assert page_nodes.bind_pages(address, len(mapping), 900)
    assert page_nodes.bind_pages(address + 1, len(mapping), 0)  # not the beginning of a page


def test_an_unknown_architecture_asks_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "sparc64")
    assert page_nodes.bind_pages(4096, 4096, 0) == "not known how to ask on sparc64"
    assert page_nodes.count_nodes([4096], tmp_path) is None


def test_a_container_that_refuses_the_calls_still_lists_its_mappings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page_nodes, "_refused", lambda *_arguments: "Operation not permitted")
    assert page_nodes.bind_pages(4096, 4096, 0) == "Operation not permitted"
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/numa_maps").write_text(
        "7f0000000000 default anon=6 dirty=6 active=0 N0=4 N1=2 kernelpagesize_kB=4\n"
        "7f0000100000 default file=/lib/libc.so.6 mapped=12 N0=12 kernelpagesize_kB=4\n"
        "7f0000200000 default\n"
    )
    assert page_nodes.count_nodes([0x7F0000000000], tmp_path) == Counter({0: 4, 1: 2})
    assert page_nodes.count_nodes([0x7F0000001000], tmp_path) is None  # within a mapping
    assert page_nodes.count_nodes([0x7F0000200000], tmp_path) is None  # not touched
