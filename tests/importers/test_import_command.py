from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

import bench
from bench.errors import BenchError
from bench.importers.formats import FORMATS
from bench.importers.reading import ImportHints
from bench.importers.registry import import_file
from bench.records import anonymize
from bench.records.file import Result, load
from bench.records.lines.decoding import plain
from bench.records.rows import case_groups
from bench.report import result_tables
from tests import DATA as TEST_DATA
from tests.support.command import call
from tests.support.results import header, measurement, save

DATA = TEST_DATA / "import"
FILES = {
    "nccl_new.txt": "nccl-tests", "nccl_debug.txt": "nccl-tests", "nccl.json": "nccl-tests",
    "nccl_v3.json": "nccl-tests", "param.txt": "param", "osu.txt": "osu",
    "pytest_benchmark.json": "pytest-benchmark",
}  # fmt: skip


def imported(name: str, folder: Path, **told: object) -> Result:
    return load(import_file(DATA / name, ImportHints(**told), folder / "out.jsonl").path)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "tool"), FILES.items())
def test_a_file_is_known_by_what_is_in_it(name: str, tool: str) -> None:
    text = (DATA / name).read_text()
    assert next(row.tool for row in FORMATS if row.looks_like(text)) == tool


def test_the_result_says_where_it_came_from(tmp_path: Path) -> None:
    result = imported("nccl_new.txt", tmp_path)
    origin = result.environment.imported_from
    assert origin is not None
    assert msgspec.to_builtins(origin) == {
        "tool": "nccl-tests",
        "version": "2.17.6",
        "format": "text",
        "file": "nccl_new.txt",
        "sha256": sha256((DATA / "nccl_new.txt").read_bytes()).hexdigest(),
        "unread": [{"where": "line 18", "text": origin.unread[0].text}],
        "taken_off": ["prefixes (21 lines)"],
    }
    assert (result.architecture, result.label) == ("4 x NVIDIA H200", "nccl_new")
    assert result.hosts() == ["nodeA", "nodeB"]
    assert result.plan.world_size == 4
    assert len(result.planned_cases()) == 6
    assert result.end is not None
    assert result.end.exit_code == 3
    text = result_tables.tables([result])
    assert "imported: from nccl_new.txt, text of nccl-tests 2.17.6" in text
    assert "warning: 1 row of it could not be read, the first line 18" in text
    assert "started: unknown on nodeA, nodeB" in text


def test_an_imported_case_is_compared_with_one_of_our_own(tmp_path: Path) -> None:
    case = "collective/all_reduce[num_bytes=1048576,timing=streamed]"
    own = load(save(tmp_path / "own.jsonl", header(num_ranks=4), measurement(case, [[80_000] * 20] * 4)))
    rows = case_groups([own]), case_groups([imported("nccl.json", tmp_path)])
    assert [group[case].view.seconds for group in rows] == [80e-6, 40e-6]
    done = call("compare", str(own.path), str(tmp_path / "out.jsonl"), "--format", "json")
    assert done.returncode == 0, done.stderr
    assert case in done.stdout


def test_single_ranks_are_not_made_up(tmp_path: Path) -> None:
    path = str(imported("nccl_v3.json", tmp_path).path)
    ranks = bench.load(path, "rank")
    assert ranks["variant"].unique().tolist() == ["each_iteration"]
    assert ranks["rank"].tolist() == [0, 1]
    samples = bench.load(path, "sample")
    assert samples.loc[samples["variant"] == "full", "rank"].isna().all()


def test_a_published_copy_of_an_imported_result_names_no_host(tmp_path: Path) -> None:
    text = json.dumps([plain(line) for line in anonymize.anonymize_result(imported("nccl_new.txt", tmp_path))])
    assert "nodeA" not in text
    assert "host0" in text


def test_an_impossible_value_is_refused_with_its_case_before_anything_is_written(tmp_path: Path) -> None:
    text = (DATA / "pytest_benchmark.json").read_text()
    data = json.loads(text)
    data["benchmarks"][0]["stats"] = {"data": [1e300], "iterations": 1}
    path = tmp_path / "in.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BenchError, match=r"pytest_benchmark/\S+: its times cannot be kept"):
        import_file(path, ImportHints(), tmp_path / "out.jsonl")
    data["benchmarks"][0] = {"name": "a", "stats": {"data": [0.1]}, "extra_info": {"bench": {"work": {"flops": "x"}}}}
    path.write_text(json.dumps(data))
    with pytest.raises(BenchError, match=r"in\.json': a: its amounts of work cannot be read"):
        import_file(path, ImportHints(), tmp_path / "out.jsonl")
    data["benchmarks"][0] = {"name": "a", "stats": {"data": [0.1]}, "params": {"n": 2**70}}
    path.write_text(json.dumps(data))
    with pytest.raises(BenchError, match=r"in\.json': .* cannot be kept: .*; take the original file"):
        import_file(path, ImportHints(), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_what_the_user_says_is_used_where_the_file_is_silent(tmp_path: Path) -> None:
    result = imported("osu.txt", tmp_path, num_ranks=4, device="NVIDIA H200")
    assert result.architecture == "4 x NVIDIA H200"
    with pytest.raises(BenchError, match="--device B200: the file says NVIDIA H200"):
        import_file(DATA / "nccl.json", ImportHints(device="B200"), tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("content", "tool", "message"),
    [
        (b"hello\n", None, "looks like none of .*; say --from TOOL"),
        (b"\xff\xfe\x00", None, "its first bytes say utf-16-le"),
        (b"# size count type time\n", None, "no row of nccl-tests can be read"),
        (b"hello\n", "param", "no row of PARAM can be read"),
        (b"groupSize 2\nCOMMS-RES-all_reduce-float32 1 oops\n", None, "no row of PARAM can be read; line 2: COMMS-RES"),
    ],
)
def test_what_cannot_be_read_at_all(tmp_path: Path, content: bytes, tool: str | None, message: str) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=message):
        import_file(path, ImportHints(), tmp_path / "out.jsonl", tool)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("nccl.json", '"args":[', '"args":' + "[" * 3000, "no whole JSON"),
        ("nccl.json", '"results":[', '"results":5,"others":[', "no row of nccl-tests can be read"),
        ("nccl.json", '"ngpus":2', '"ngpus":1048576', "2097152 ranks: there are 1 to"),
        ("nccl.json", '"float"', '"\\ud800"', "cannot be kept: .* surrogates not allowed"),
        ("nccl_new.txt", "nGpus 2", "nGpus " + "9" * 5000, "9{18}... is a number of 5000 digits; take the original"),
        ("param.txt", "size (B)", "xsize (B)", "no row of PARAM can be read"),
        ("pytest_benchmark.json", '"iterations": 10}', '"iterations": 1' + "0" * 400 + "}", "its times cannot be kept"),
    ],
)
def test_a_damaged_value_is_refused(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    text = (DATA / name).read_text()
    assert old in text
    path = tmp_path / name
    path.write_text(text.replace(old, new))
    with pytest.raises(BenchError, match=message):
        import_file(path, ImportHints(), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("nccl.json", '"hostname":"nodeA"', '"hostname":["nodeA"]'),
        ("nccl.json", '"device_info":"NVIDIA H200"', '"device_info":[1]'),
        ("nccl.json", '"iterations":20', '"iterations":1e999'),
        (
            "nccl.json",
            '"iterations":20,"aggregated_iterations":1',
            f'"iterations":{"9" * 4000},"aggregated_iterations":{"9" * 4000}',
        ),
        ("nccl.json", '"minimum_bytes":1048576', '"minimum_bytes":NaN'),
        ("pytest_benchmark.json", '"data": [3e-6, 1e-6, 2e-6]', '"data": 3e-6'),
    ],
)
def test_a_damaged_value_that_no_case_needs_counts_as_unknown(tmp_path: Path, name: str, old: str, new: str) -> None:
    text = (DATA / name).read_text()
    assert old in text
    path = tmp_path / name
    path.write_text(text.replace(old, new))
    result = load(import_file(path, ImportHints(), tmp_path / "out.jsonl").path)
    assert len(result.planned_cases()) == len(imported(name, tmp_path / "whole").planned_cases())


def test_a_message_shows_no_control_characters_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text((DATA / "nccl.json").read_text().replace("NVIDIA H200", "\\u001b[31m"))
    done = call("import", str(path), "--device", "NVIDIA H200", "-o", str(tmp_path / "out.jsonl"))
    assert (done.returncode, done.stderr) == (
        2,
        f"bench: error: {str(path)!r}: --device NVIDIA H200: the file says \\x1b[31m; leave the option out\n",
    )


def test_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    names = ("nccl_new.txt", "pytest_benchmark.json")
    done = call("import", *(str(DATA / name) for name in names), "-o", str(folder), "--label", "theirs")
    assert done.returncode == 3
    assert "nccl_new.txt: 1 row could not be read: line 18: " in done.stderr
    assert "nccl_new.txt: 2 cases wrong or without a time" in done.stderr
    files = sorted(folder.glob("theirs-*.jsonl"))
    assert len(files) == 2
    shown = call("show", *map(str, files), "--format", "json")
    assert {row["suite"] for row in json.loads(shown.stdout)["rows"]} == {"collective", "pytest_benchmark"}

    both = call("import", str(DATA / "nccl.json"), str(DATA / "param.txt"), "-o", str(tmp_path / "one.jsonl"))
    assert (both.returncode, "name a folder" in both.stderr) == (2, True)
    silent = call("import", str(DATA / "nccl_old.txt"), "-o", str(folder))
    assert (silent.returncode, "add --op" in silent.stderr) == (2, True)
    clean = call("import", str(DATA / "nccl_old.txt"), "--op", "all_gather", "-o", str(tmp_path / "old.jsonl"))
    assert (clean.returncode, clean.stderr.count("\n")) == (3, 1)  # one wrong case


def test_importing_does_not_import_torch() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from bench.importers.registry import _clean, read_text; from bench.importers.reading import *\n"
        f"text = _clean(Path('x'), Path({str(DATA / 'nccl.json')!r}).read_bytes())\n"
        "read = read_text(Path('x'), text, ImportHints(), None)\n"
        "print(identity('collective', read.readings[0].params)[0], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "collective/all_reduce[num_bytes=1048576,timing=streamed] False"


def test_a_file_that_is_refused_costs_none_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("no table\n")
    done = call("import", str(tmp_path / "other.txt"), str(DATA / "nccl_new.txt"), "-o", str(tmp_path / "out"))
    assert (done.returncode, "looks like none of" in done.stderr) == (2, True)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_two_files_of_one_content_are_remarked_on(tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_bytes((DATA / "nccl_new.txt").read_bytes())
    out = tmp_path / "out"
    done = call("import", str(DATA / "nccl_new.txt"), str(copy), "-o", str(out))
    assert done.stderr.count("would count the same numbers twice") == 1
    assert len(list(out.iterdir())) == 2
