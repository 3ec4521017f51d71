"""What of a file is in the page cache, and that it can be read past it, or is said not to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.errors import Skip
from bench.workloads.storage import page_cache
from tests.workloads.storage.test_scratch_dir import one_rank

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
tmpfs /dev/shm tmpfs rw 0 0
server:/data /mnt/my\\040data nfs4 rw 0 0
/dev/vdb /mnt ext4 rw 0 0
/dev/vdc /mnt xfs rw 0 0
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    if page_cache.file_system(tmp_path) in page_cache.IN_MEMORY:
        pytest.skip("the temporary folder is in memory")
    paths = [tmp_path / name for name in ("a", "b")]
    for path, size in zip(paths, (2**20, 5000), strict=True):
        path.write_bytes(os.urandom(size))
    return paths


def test_files_are_counted_in_the_cache_and_dropped_from_it(files: list[Path]) -> None:
    assert page_cache.cached_share(files) == 1.0
    for path in files:
        page_cache.sync(path)
    page_cache.drop_from_cache(files)
    dropped = page_cache.cached_share(files)
    if dropped != 0:
        pytest.skip(f"this file system keeps {dropped} of the pages")
    page_cache.require_uncached(one_rank(), files)
    files[1].read_bytes()
    # Of 256 and 2 pages, those two.
    assert page_cache.cached_share(files) == 2 / 258


def test_where_files_cannot_be_dropped_the_case_is_skipped(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "drop_from_cache", lambda paths: None)
    with pytest.raises(Skip, match="no uncached reads: 100% of the pages are still in the page cache"):
        page_cache.require_uncached(one_rank(), files)
    monkeypatch.setattr(page_cache, "cached_share", lambda paths: None)
    with pytest.raises(Skip, match="mincore does not tell"):
        page_cache.require_uncached(one_rank(), files)
    monkeypatch.setattr(page_cache, "file_system", lambda path: "tmpfs")
    with pytest.raises(Skip, match="the files lie on tmpfs, which is memory"):
        page_cache.require_uncached(one_rank(), files)
    assert "memory, and no storage is in this number" in page_cache.notes(files[0])[0]


def test_empty_files_have_no_share(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert page_cache.cached_share([tmp_path / "empty"]) is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "ext4"), ("/dev/shm/x", "tmpfs"), ("/mnt/my data/x", "nfs4"), ("/mnt/x", "xfs"), ("/dev/shmx", "ext4")],
)
def test_the_type_of_a_file_system_is_that_of_the_deepest_mount(path: str, kind: str) -> None:
    assert page_cache.file_system(Path(path), MOUNTS) == kind
    assert page_cache.file_system(Path(path), "") is None
