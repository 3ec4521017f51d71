"""What the README shows is what runs and what the saved files say: its examples, its figures and its times."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.measure.planning.presets import PRESETS
from bench.records.file import load as load_result
from tests import ROOT
from tests.support.command import BENCH, TORCHRUN, call, saved, start

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICK = ("--preset", "smoke", "--budget", "10m")


@pytest.fixture(scope="module")
def fill_readme() -> Any:
    """The script, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield importlib.import_module("fill_readme")


def example() -> str:
    part = README.partition("<!-- example:begin -->")[2].partition("<!-- example:end -->")[0]
    (block,) = re.findall(r"```python\n(.*?)```", part, re.S)
    return str(block)


@pytest.mark.long
@pytest.mark.launchers
def test_the_example_suite_is_short_and_runs_everywhere(tmp_path: Path) -> None:
    assert len(example().splitlines()) < 25
    suite = tmp_path / "sum.py"
    suite.write_text(example(), encoding="utf-8")
    local = call("run", str(suite), *QUICK, "-o", str(tmp_path / "local"))
    assert local.returncode == 0, local.stderr
    torchrun = [*TORCHRUN, "--standalone", "--nproc-per-node=3", "--no-python", *BENCH, "run", str(suite), *QUICK]
    process = start([*torchrun, "-o", str(tmp_path / "joined")])
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    for folder, num_ranks in (("local", 2), ("joined", 3)):
        file = saved(tmp_path / folder)
        assert [(m["case"], m["status"], m["num_ranks"]) for m in file.measurements] == [
            ("sum/run[num_elements=1024]", "ok", num_ranks),
            ("sum/run[num_elements=1048576]", "ok", num_ranks),
        ]
    rows = json.loads(call("show", str(saved(tmp_path / "local").path), "--format", "json").stdout)["rows"]
    product = rows[1]["algbw_gb_per_s"] * rows[1]["seconds_median"] * 1e9
    assert product == pytest.approx(4 * 1048576)  # the last bit depends on the time


def test_the_example_in_a_notebook_gives_a_frame_of_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(import bench\n.*?)```", README, re.DOTALL)
    assert isinstance(block, str)
    names: dict[str, Any] = {}
    with contextlib.chdir(ROOT):
        exec(block, names)
    sizes = [*names["sizes"].param_num_bytes]
    assert len(sizes) > 5
    assert sizes == sorted(set(sizes))
    assert names["sizes"].rate.gt(0).all()
    assert "all_reduce 1 MiB" in capsys.readouterr().out


def test_figures_and_the_screen_are_what_the_files_say(fill_readme: Any) -> None:
    for path, text in fill_readme.PAGES.items():
        assert path.read_text(encoding="utf-8") == text(), f"{path.name}: python scripts/fill_readme.py"
    assert set(re.findall(r"<!-- fill: (\w+) -->", README)) == set(fill_readme.PARTS)


def test_the_screen_is_the_end_of_a_run_by_the_command_above_it(fill_readme: Any) -> None:
    above, _, below = README.partition("<!-- fill: screen -->")
    command = above.strip().splitlines()[-1].split("#")[0].split()
    result = load_result(fill_readme._only(fill_readme.SMOKE))
    assert command == ["scripts/run", "--preset", result.plan.preset]
    shown = below.partition("```console\n")[2].partition("```")[0].splitlines()
    whole = [line for line in fill_readme._screen(result.path) if line]
    assert len(shown) <= 20
    assert [line for line in shown if line != fill_readme.GAP] == [line for line in whole if line in shown]
    assert any("bench show last" in line for line in shown)


def test_a_figure_that_is_not_in_its_page_is_an_error(fill_readme: Any) -> None:
    cell = fill_readme.Cell("xeon", ("all",), "hold the median of the others")
    assert re.fullmatch(r"[\d.]+%", fill_readme._cell(cell))
    for wrong in (cell._replace(row=("none",)), cell._replace(head="no head"), cell._replace(page="mixed")):
        with pytest.raises(SystemExit, match="not one"):
            fill_readme._cell(wrong)


def test_every_figure_of_the_errors_leads_to_the_page_that_has_it(fill_readme: Any) -> None:
    rows = [row for row in fill_readme._rows(README) if "on other data" in row]
    assert len(rows) == len(fill_readme.CLAIMS) >= 8
    for row in rows:
        for head in ("on data of the fit", "on other data"):
            if row[head] != "-":
                (figure, page) = re.findall(r"\[([\d.]+).*?\]\((\S+?)\)", row[head])[0]
                assert figure in (ROOT / page).read_text(encoding="utf-8")


def test_the_times_are_those_of_the_presets() -> None:
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \| (\d+) min \|$", README, re.MULTILINE)
    assert len(rows) > 4
    for commands, minutes in rows:
        call_of = commands.split("`")[-2]
        given = re.search(r"--budget (\d+)m", call_of)
        preset = re.search(r"--preset (\w+)", call_of)
        budget = 60 * int(given[1]) if given else PRESETS[preset[1] if preset else "standard"].budget_seconds
        assert budget is not None
        assert 0.5 * 60 * int(minutes) < budget <= 60 * int(minutes)


def test_what_was_not_tried_is_on_the_first_screen() -> None:
    before, _, after = README.partition("**Not tried:**")
    assert "**Tried on**" in before
    assert len(before.splitlines()) < 60
    named = after.partition("\n\n")[0]
    assert all(word in named for word in ("NCCL between GPUs", "several GPUs", "ROCm", "limits.md"))
