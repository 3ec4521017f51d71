"""What the README shows is what runs: its example suite, and its names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.cli import COMMANDS
from bench.measure.planning.suite_loader import builtin_names, load
from bench.records import metrics
from tests import ROOT
from tests.support.command import BENCH, TORCHRUN, call, saved, start

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICK = ("--preset", "smoke", "--budget", "10m")


def example() -> str:
    part = README.partition("<!-- example:begin -->")[2].partition("<!-- example:end -->")[0]
    (block,) = re.findall(r"```python\n(.*?)```", part, re.S)
    return str(block)


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


def test_every_command_suite_and_metric_is_explained() -> None:
    names = {f"bench {command}" for command in COMMANDS} | {f"`{suite}`" for suite in builtin_names()}
    names |= {f"`{metric}`" for metric in metrics.METRICS}
    names |= {f"`{metric}`" for suite in builtin_names() for metric in load(suite).metrics}
    page = (ROOT / "bench" / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert not [name for name in sorted(names) if name not in README + page]


def test_every_room_has_a_line_on_the_map() -> None:
    house = (ROOT / "bench" / "README.md").read_text()
    folders = {path.parent.relative_to(ROOT / "bench") for path in (ROOT / "bench").rglob("*.py")} - {Path()}
    assert folders
    assert not [str(each) for each in sorted(folders) if f"`{each}/`" not in house and f"`{each.name}/`" not in house]


def test_every_link_and_picture_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert not [target for target in targets if "://" not in target and not (ROOT / target).exists()]
