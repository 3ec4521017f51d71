"""Limits of this process's control groups: CPU quota and memory, version 1 and version 2, nested.

A limit of any ancestor holds for the process too, so the smallest along the way counts. Interfaces as the
kernel documents them: Documentation/admin-guide/cgroup-v2.rst (`cpu.max`, `memory.max`, `memory.current`,
`memory.stat`) and Documentation/scheduler/sched-bwc.rst, Documentation/admin-guide/cgroup-v1/memory.rst.

Every function takes the root of the file system, so that another tree can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Version 1 has no word for "no limit": it reports the largest number of whole pages that fits in 63 bits.
NO_LIMIT_BYTES = 1 << 60


@dataclass(frozen=True)
class MemoryFiles:
    """Names of one version's files, and of the reclaimable part of the usage within its `memory.stat`."""

    limit: str
    usage: str
    reclaimable: str


MEMORY_FILES = (
    MemoryFiles("memory.max", "memory.current", "inactive_file"),
    MemoryFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

_THROTTLED = ("nr_throttled", "throttled_usec", "throttled_time")
"""Keys of `cpu.stat`: both versions' count of periods; version 2's microseconds and version 1's nanoseconds."""


def read_text(path: Path) -> str | None:
    """A small file's text without the blanks around it, or None if it is not there or cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """A file that holds one number; None if it cannot be read or holds something else, such as `max`."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None


def quota_cores(root: Path = Path("/")) -> float | None:
    """CPU time that this process may use, in cores: quota / period; None if there is no limit."""
    quotas = []
    for folder in group_folders("cpu", root):
        quota, _, period = (read_text(folder / "cpu.max") or "").partition(" ")
        if not quota:
            quota, period = (
                read_text(folder / "cpu.cfs_quota_us") or "",
                read_text(folder / "cpu.cfs_period_us") or "",
            )
        # No limit is `max` in version 2 and -1 in version 1.
        if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Memory that this process and its neighbours in the group may use; None if there is no limit."""
    return min((limit for _, _, limit in _memory_limits(root)), default=None)


def memory_room_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory left below the limit, or None if there is no limit.

    That is limit - (usage - inactive page cache): the kernel takes such pages back before it runs out.
    """
    rooms = []
    for folder, files, limit in _memory_limits(root):
        used = read_int(folder / files.usage)
        if used is not None:
            cached = _stat(folder / "memory.stat", files.reclaimable) or 0
            rooms.append(max(0, limit - max(0, used - cached)))
    return min(rooms, default=None)


def throttling(folder: Path) -> tuple[int, float] | None:
    """(periods, seconds summed over cores) in which a group was held back by its CPU quota; None if not known."""
    periods, version2, version1 = (_stat(folder / "cpu.stat", name) for name in _THROTTLED)
    if periods is None or (version2 is None and version1 is None):
        return None
    return periods, version2 / 1e6 if version2 is not None else (version1 or 0) / 1e9


def group_folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """This process's group of a controller and all its ancestors that are visible here, innermost first."""
    paths = _paths_of_process(root)
    for mount, subtree, kind, options in _mounts(root):
        is_v2 = kind == "cgroup2"
        path = paths.get("" if is_v2 else controller)
        if path is None or not (is_v2 or controller in options):
            continue
        # In a container without a namespace of its own, only a subtree is mounted, and the path begins with
        # it.
        subtree = subtree.rstrip("/")
        inner = path[len(subtree) :] if (path + "/").startswith(subtree + "/") else path
        top = root / mount.lstrip("/")
        folder = top if ".." in inner.split("/") else top / inner.strip("/")
        for each in (folder, *folder.parents):
            if each.is_dir():
                yield each
            if each == top:
                break


def _memory_limits(root: Path) -> Iterator[tuple[Path, MemoryFiles, int]]:
    for folder in group_folders("memory", root):
        for files in MEMORY_FILES:
            limit = read_int(folder / files.limit)
            if limit is not None and 0 <= limit < NO_LIMIT_BYTES:
                yield folder, files, limit


def _paths_of_process(root: Path) -> dict[str, str]:
    """Controller -> path of this process's group (cgroups(7)); the version 2 hierarchy has the empty name."""
    paths = {}
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _mounts(root: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """(mount point, mounted subtree, type, options) of every cgroup mount; proc_pid_mountinfo(5)."""
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        fields, filesystem = before.split(), after.split()
        if len(fields) > 4 and len(filesystem) > 2 and filesystem[0] in ("cgroup", "cgroup2"):
            yield fields[4], fields[3], filesystem[0], filesystem[2].split(",")


def _stat(path: Path, name: str) -> int | None:
    for line in (read_text(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return None
