"""The word `last` for the newest result of the results folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records.file import load, load_many
from bench.records.last_result import named_file
from tests.support.command import call
from tests.support.results import header, measurement, save

LAST = Path("last")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _save(name: str, hour: int, folder: str = "results") -> Path:
    return save(Path(folder) / name, header(started=f"2026-01-31T{hour:02}:00:00.000+00:00"), measurement())


def test_the_newest_is_that_whose_run_began_last_whatever_its_name_or_age() -> None:
    _save("z.jsonl", 8)
    newest = _save("a.jsonl.gz", 17)
    _save("m.jsonl", 12)
    assert load("last").path == newest
    assert [result.path for result in load_many(["last", "results/m.jsonl"])] == [newest, Path("results/m.jsonl")]


def test_files_that_do_not_say_when_they_began_do_not_count() -> None:
    whole = _save("whole.jsonl", 8)
    Path("results/empty.jsonl").write_text("")
    Path("results/torn.jsonl").write_text('{"kind":"header","started":"2027')
    Path("results/other.jsonl").write_text('{"started": "2030-01-01T00:00:00.000+00:00"}\n')
    Path("results/.hidden.jsonl").write_bytes(_save("later.jsonl", 9, "elsewhere").read_bytes())
    assert named_file(LAST) == whole


def test_a_file_or_folder_of_that_name_wins(here: Path) -> None:
    _save("whole.jsonl", 8)
    save(here / "last", header(label="mine"), measurement())
    assert load("last").label == "mine"


def test_the_runs_own_file_can_be_left_out() -> None:
    before, own = _save("before.jsonl", 8), _save("own.jsonl", 9)
    assert named_file(LAST, but=own) == before
    assert named_file(Path("results/own.jsonl"), but=own) == own


@pytest.mark.parametrize("make_folder", [True, False])
def test_without_a_result_the_folder_is_named(make_folder: bool) -> None:
    if make_folder:
        Path("results").mkdir()
    with pytest.raises(BenchError, match=r"'last': folder 'results' has no result here; .* `bench run`"):
        load("last")


@pytest.mark.parametrize(
    "command", ["show last", "report last -o page.md", "compare last last", "show last --format json"]
)
def test_commands_take_it(here: Path, command: str) -> None:
    _save("a.jsonl", 8)
    newest = _save("b.jsonl", 9)
    done = call(*command.split())
    assert done.returncode == 0, done.stderr
    assert str(newest) in done.stdout + done.stderr or "page.md" in done.stdout or "compare" in command
