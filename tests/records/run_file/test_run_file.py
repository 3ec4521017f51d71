"""A run's file that others replace, cut off or lock, and disks that take no more of it."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records.file import load
from bench.records.lines.kinds import End
from bench.records.run_file import disk, run_file
from bench.records.run_file.run_file import NoRoomError, RunFile
from tests.support.results import header_line, line, measurement

A, B, C = (f"collective/all_reduce[num_bytes={n}]" for n in (4, 8, 16))
END = End(ended=None, status="complete", exit_code=0)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in which a file may be rescued, so that none is left elsewhere."""
    monkeypatch.chdir(_made(tmp_path / "here"))
    monkeypatch.setenv("HOME", str(_made(tmp_path / "home")))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def begun(path: Path) -> RunFile:
    file = RunFile.create(path)
    file.append(header_line())
    file.append(line(measurement(A)))
    return file


def cases(path: Path) -> list[str]:
    return [record.case for record in load(path).measurements]


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def make_link(path: Path) -> None:
    path.rename(path.with_name("original"))
    path.symlink_to("elsewhere")
    path.with_name("elsewhere").write_text("")


def change_in_place(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(30)
        stream.write(b"#")
    os.utime(path, ns=(1, 1))


LOST: dict[str, tuple[Callable[[Path], object], str]] = {
    "replaced": (replace, "was replaced by another file"),
    "deleted": (Path.unlink, "was deleted"),
    "renamed": (lambda path: path.rename(path.with_name("other")), "was deleted"),
    "cut off": (lambda path: os.truncate(path, 10), "was cut off by another program"),
    "emptied": (lambda path: os.truncate(path, 0), "was cut off by another program"),
    "added to": (lambda path: path.write_bytes(path.read_bytes() + b"{}\n"), "was changed by another program"),
    "changed in place": (change_in_place, "was changed by another program"),
    "a link": (make_link, "was replaced by a link"),
    "its folder deleted": (lambda path: shutil.rmtree(path.parent), "is gone with its folder"),
    "its folder renamed": (
        lambda path: path.parent.rename(path.parent.with_name("moved")),
        "is gone with its folder",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "was replaced by another file"),
    "its folder a file": (
        lambda path: (shutil.rmtree(path.parent), path.parent.write_text("")),
        "cannot be reached any more",
    ),
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("how", LOST)
def test_a_lost_file_is_rescued_with_every_record(tmp_path: Path, how: str, name: str) -> None:
    lose, reason = LOST[how]
    path = _made(tmp_path / "results") / name
    with begun(path) as file:
        said: list[str] = []
        file.say = said.append
        lose(path)
        file.append(line(measurement(B)))
        file.append(line(measurement(C)))
        file.end(END)
    assert cases(file.path) == [A, B, C]
    assert load(file.path).end == END
    assert load(file.path).warnings == ()
    assert len(file.moves) == len(said) == 1
    assert f"{path} {reason}" in file.moves[0]
    assert str(file.path) in said[0]
    assert file.path != path
    assert file.path.name.startswith("a-rescued-")
    assert file.path.name.endswith(name[1:])
    # Next to it if its folder is there still, else in the folder around that.
    assert file.path.parent == (path.parent if path.parent.is_dir() else tmp_path)


@pytest.mark.parametrize("how", LOST)
def test_a_file_that_is_lost_after_its_last_line_is_seen_by_the_check_at_the_end(tmp_path: Path, how: str) -> None:
    path = _made(tmp_path / "results") / "a.jsonl"
    with begun(path) as file:
        LOST[how][0](path)
        file.check()
        assert cases(file.path) == [A]
        assert file.path != path


def test_what_is_lost_after_the_end_is_rescued_too(tmp_path: Path) -> None:
    file = begun(tmp_path / "a.jsonl")
    file.end(END)
    file.check()
    assert file.moves == []
    replace(file.path)
    file.check()  # a copy has all lines: nothing is lost
    assert file.moves == []
    file.path.unlink()
    file.check()
    file.close()
    assert cases(file.path) == [A]


@pytest.mark.parametrize(
    "change",
    [
        os.utime,
        lambda path: path.chmod(0o444),
        lambda path: (path.rename(path.with_name("b")), path.symlink_to("b")),
        lambda path: path.with_name("b").hardlink_to(path),
    ],
    ids=["touched", "of another mode", "linked to", "of two names"],
)
def test_a_file_that_is_still_the_same_stays(tmp_path: Path, change: Callable[[Path], object]) -> None:
    with begun(tmp_path / "a.jsonl") as file:
        change(file.path)
        file.append(line(measurement(B)))
        file.check()
    assert file.moves == []
    assert cases(tmp_path / "a.jsonl") == [A, B]


class SmallDisks:
    """Folders by name -> bytes that a file in one may have; other folders take everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, **room: int) -> None:
        self.number, self.room = number, room
        self.reserve, self.write_at = disk.reserve, disk.write_at
        monkeypatch.setattr(disk, "reserve", self.reserve_some)
        monkeypatch.setattr(disk, "write_at", self.write_some)

    def _left(self, descriptor: int) -> int:
        folder = Path(f"/proc/self/fd/{descriptor}").readlink().parent.name
        return self.room.get(folder, 2**30)

    def reserve_some(self, descriptor: int, offset: int, num_bytes: int) -> None:
        if offset + num_bytes > self._left(descriptor):
            raise OSError(self.number, os.strerror(self.number))

    def write_some(self, descriptor: int, data: bytes, offset: int) -> None:
        room = self._left(descriptor) - offset
        self.write_at(descriptor, data[: max(0, room)], offset)
        if room < len(data):
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG])
def test_a_disk_that_takes_no_more_has_an_end_line_and_another_one_takes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = _made(tmp_path / "full") / "a.jsonl"
    with begun(path) as file:
        SmallDisks(monkeypatch, number, full=file._size + 2000)
        for case in (B, C):
            file.append(line(measurement(case, [[1, 2, 3] * 500] * 2)))
        file.end(END)
    assert cases(file.path) == [A, B, C]
    assert file.path.parent == tmp_path
    assert cases(path) == [A]
    end = load(path).end
    assert end is not None
    assert (end.status, end.exit_code) == ("failed", 3)
    assert os.strerror(number) in end.reason
    assert str(file.path) in end.reason


def test_a_record_that_no_disk_takes_is_tried_again_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    with begun(path) as file:
        rooms = SmallDisks(
            monkeypatch, errno.ENOSPC, **{tmp_path.name: file._size + 300, "here": 0, "home": 0, "tmp": 0}
        )
        rooms.room[tmp_path.parent.name] = 0
        with pytest.raises(NoRoomError, match=r"No space left .* no other folder takes .* go on with --resume"):
            file.append(line(measurement(B, [[1, 2, 3] * 500] * 2)))
        assert cases(path) == [A]
        rooms.room.clear()
        file.end(End(ended=None, status="failed", exit_code=3))
    assert cases(path) == [A, B]
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["a.jsonl"]


def test_a_full_disk_still_takes_the_end_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    with begun(path) as file:
        room = {tmp_path.name: file._size + 300, tmp_path.parent.name: 0, "here": 0, "home": 0, "tmp": 0}
        SmallDisks(monkeypatch, errno.ENOSPC, **room)
        with pytest.raises(NoRoomError):
            file.append(line(measurement(B, [[1, 2, 3] * 500] * 2)))
        file.end(End(ended=None, status="failed", exit_code=3, reason="full"))
    assert cases(path) == [A]
    end = load(path).end
    assert end is not None
    assert end.reason == "full"


def test_a_disk_without_room_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallDisks(monkeypatch, errno.ENOSPC, **{tmp_path.name: 0})
    with pytest.raises(BenchError, match="No space left on device; free some space"):
        RunFile.create(tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


def test_blocks_are_set_aside_behind_the_end_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with begun(path) as file:
        assert path.stat().st_size == file._size
        assert path.stat().st_blocks * 512 >= file._size + disk.END_ROOM
    assert path.stat().st_blocks * 512 < file._size + disk.END_ROOM


def test_an_empty_file_is_taken_away_and_one_of_others_is_not(tmp_path: Path) -> None:
    RunFile.create(tmp_path / "a.jsonl").close()
    assert list(tmp_path.glob("*.jsonl")) == []
    file = RunFile.create(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "b.jsonl").write_text("theirs")
    file.close()
    assert (tmp_path / "b.jsonl").read_text() == "theirs"


def test_an_equal_name_is_tried_again_with_other_digits(tmp_path: Path) -> None:
    names = iter(tmp_path / name for name in ("a.jsonl", "a.jsonl", "b.jsonl"))
    with RunFile.create(lambda: next(names)) as first, RunFile.create(lambda: next(names)) as second:
        assert (first.path.name, second.path.name) == ("a.jsonl", "b.jsonl")
        with pytest.raises(BenchError, match="never overwrites"):
            RunFile.create(tmp_path / "a.jsonl")
        with pytest.raises(BenchError, match="never overwrites"):
            RunFile.create(lambda: tmp_path / "a.jsonl")


def test_a_file_is_handed_on_with_its_lock_and_its_lines(tmp_path: Path) -> None:
    first = begun(tmp_path / "a.jsonl")
    orders, descriptors = first.pass_on()
    inherited = json.loads(orders)
    for name, descriptor in zip(("descriptor", "kept"), descriptors, strict=True):
        inherited[name] = os.dup(descriptor)  # as a process has it that took this one's place
    with RunFile.inherit(json.dumps(inherited), print) as second:
        with pytest.raises(BenchError, match=r"is being written by process"):
            RunFile.resume(tmp_path / "a.jsonl")
        second.append(line(measurement(B)))
    assert cases(tmp_path / "a.jsonl") == [A, B]
    first.take_over()
    first.check()
    assert first.moves == []
    first.close()


@pytest.mark.parametrize("how", ["cut off", "deleted", "replaced"])
def test_a_file_that_is_lost_while_it_is_handed_on_loses_nothing(tmp_path: Path, how: str) -> None:
    first = begun(tmp_path / "a.jsonl")
    LOST[how][0](tmp_path / "a.jsonl")
    inherited = json.loads(first.pass_on()[0])
    inherited |= {name: os.dup(inherited[name]) for name in ("descriptor", "kept")}
    said: list[str] = []
    with RunFile.inherit(json.dumps(inherited), said.append) as second:
        second.append(line(measurement(B)))
    assert cases(second.path) == [A, B]
    assert LOST[how][1] in said[0]
    first.close()


def test_a_line_that_a_killed_launch_did_not_finish_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with begun(path) as file:
        file.append(line(measurement(B)))
        os.truncate(path, path.stat().st_size - 20)
        file.take_over(mends=True)
        file.check()
        assert file.moves == []
    assert cases(path) == [A, B]


def test_a_compressed_file_without_jsonl_in_its_name_goes_on(tmp_path: Path) -> None:
    begun(tmp_path / "a.jsonl").close()
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    with RunFile.resume(path) as file:
        path.unlink()
        file.append(line(measurement(B)))
    assert cases(file.path) == [A, B]


def test_a_limit_on_the_size_of_files_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(tmp_path / "a.jsonl") as file:

        def refuse(data: bytes) -> None:
            raise OSError(errno.EFBIG, "File too large")

        monkeypatch.setattr(file._kept, "add", refuse)
        with pytest.raises(NoRoomError, match="File too large"):
            file.append(line(measurement(B)))
        monkeypatch.undo()
        file.end(END)
    assert load(file.path).end == END
    assert run_file.MOVED_CODE == 3
