"""Files that are made to take all memory or time, or to lead nowhere: one line, and exit code 2."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core import jsonl
from bench.errors import BenchError
from bench.records.file import load, load_many
from tests.support.damage import call
from tests.support.results import end, header, measurement, save

BLANK = b" " * (2**20 - 1) + b"\n"
MEASURED = "collective/barrier"


def bomb(path: Path, start: bytes, block: bytes, num_blocks: int) -> Path:
    """A gzipped file of a start and one block again and again."""
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as stream:
        stream.write(packer.compress(start))
        for _ in range(num_blocks):
            stream.write(packer.compress(block))
        stream.write(packer.flush())
    return path


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused_early(tmp_path: Path) -> None:
    start = save(tmp_path / "good.jsonl", header(), measurement(MEASURED)).read_bytes()
    path = bomb(tmp_path / "bomb.jsonl.gz", start, BLANK, 128)
    with pytest.raises(BenchError, match=r"unpacks to more than 200 times its size; .*--unpack-limit 64GiB"):
        load(path)
    jsonl.set_unpack_limit(2**40)
    try:
        assert [record.case for record in load(path).measurements] == [MEASURED]
    finally:
        jsonl.set_unpack_limit(jsonl.MAX_UNPACKED)


def test_a_small_file_may_be_as_dense_as_it_likes(tmp_path: Path) -> None:
    start = save(tmp_path / "good.jsonl", header(), measurement(MEASURED)).read_bytes()
    assert load(bomb(tmp_path / "dense.jsonl.gz", start, BLANK, 20)).measurements


def test_a_line_has_a_longest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 2**21)
    path = save(tmp_path / "long.jsonl", header(), measurement(MEASURED))
    with path.open("ab") as stream:
        stream.write(b'{"kind": "' + b"x" * 2**22)
    with pytest.raises(BenchError, match=r"line 3 has more than 2 MiB"):
        load(path)


def test_a_text_of_another_tool_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.importers import registry

    monkeypatch.setattr(registry, "MAX_TEXT", 2**20)
    path = tmp_path / "nccl.txt"
    path.write_bytes(b"# nccl-tests\n" * 2**17)
    code, printed = call("import", str(path), "-o", str(tmp_path / "out"))
    assert (code, "has more than 1 MiB" in printed) == (2, True)


def test_a_bomb_in_an_import_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "nccl.txt.gz", b"# nccl-tests version 2\n", b"#" * 2**20, 128)
    code, printed = call("import", str(path), "-o", str(tmp_path / "out"))
    assert (code, "200 times its size" in printed) == (2, True)


def test_too_little_memory_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    start = save(tmp_path / "good.jsonl", header()).read_bytes()
    with path.open("wb") as stream:
        stream.write(start + b'{"kind":"measurement","case":"')
        stream.truncate(400 * 2**20)
    script = (
        "import resource, sys; from bench.cli import call; import bench.records.file, bench.report.result_tables;"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 300 * 2**20,) * 2); sys.exit(call(['show', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "more memory than this process may have" in done.stderr


def loop(folder: Path) -> Path:
    (folder / "a.jsonl").symlink_to("b.jsonl")
    (folder / "b.jsonl").symlink_to("a.jsonl")
    return folder / "a.jsonl"


ENDS: dict[str, Callable[[Path], Path]] = {
    "a link to itself": loop,
    "a name that is too long": lambda folder: folder / f"{'x' * 300}.jsonl",
    "a path that is too long": lambda folder: folder / "/".join(["x" * 100] * 60),
    "a device": lambda folder: Path("/dev/zero"),
    "a folder of that name": lambda folder: folder / "f.jsonl" / "g.jsonl",
}
COMMANDS = [
    "show {}", "show {} --status", "compare {} {}", "compare {} {} --among host", "report {} -o {}.html", "explain {}",
    "mix {}=2 {}=2", "import {}", "predict --from {} --model llama3-8b --gpus 8",
]  # fmt: skip


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_leads_nowhere_is_one_line(what: str, command: str, tmp_path: Path) -> None:
    path = ENDS[what](tmp_path)
    code, printed = call(*(word.replace("{}", str(path)) for word in command.split()))
    assert code == 2, printed
    assert printed.startswith("bench: error: ")
    assert printed.count("\n") == 1


def test_last_passes_over_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    loop(tmp_path / "results")
    (tmp_path / "results" / "folder.jsonl").mkdir()
    save(tmp_path / "results" / "good.jsonl", header(label="mine"), measurement(MEASURED), end())
    assert load_many(["last"])[0].label == "mine"


NESTED = [
    b'{"kind":"header","schema":1,"label":' + b"[" * 100_000,
    b'{"kind":"measurement","params":{"a":' * 3000,
    b'{"kind":"end","status":"complete","exit_code":' + b"9" * 10**6 + b"}",
    b'{"kind":"end","status":"complete","exit_code":1e999}',
    b'{"kind":"end","status":"complete","exit_code":256}',
    b'{"kind":"resume","environment":{"settings":{"a":' + b'{"a":' * 900 + b"1" + b"}" * 903,
]


@pytest.mark.parametrize("bad", NESTED)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_deep_and_huge_values_are_one_line_in_every_command(bad: bytes, suffix: str, tmp_path: Path) -> None:
    good = save(tmp_path / "good.jsonl", header(), measurement(MEASURED), end()).read_bytes().splitlines()
    data = b"\n".join([good[0], good[1], bad, good[2]])
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    for words in (["show"], ["show", "--share", "-o", str(tmp_path / "o.jsonl")], ["show", "--status"], ["explain"]):
        code, printed = call(words[0], str(path), *words[1:])
        assert (code, printed.count("\n")) == (2, 1), printed[:300]
    assert not os.path.lexists(tmp_path / "o.jsonl")


@pytest.mark.parametrize("suite", ["a\n", "../a", "a/b", "é", "", " a", "-a", ".a", "a" * 101, 'x"><b', "a:b", "a b"])
def test_a_suite_has_a_name_of_a_safe_alphabet(suite: str, tmp_path: Path) -> None:
    from tests.support.damage import text_of

    path = tmp_path / "bad.jsonl"
    path.write_text(text_of([header(), measurement(MEASURED) | {"suite": suite}, end()]))
    with pytest.raises(BenchError, match=r"suite: Expected `str` matching"):
        load(path)
