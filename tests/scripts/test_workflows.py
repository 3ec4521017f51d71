"""This repository's CI and the workflows that the docs show: as their services read them, and as the command does."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from typing import Any

import click
import pytest

from bench.cli import cli
from tests import ROOT

yaml = pytest.importorskip("yaml")

CI = ROOT / ".github" / "workflows" / "ci.yml"
PAGE = ROOT / "bench" / "docs" / "ci.md"
STEP_KEYS = {"continue-on-error", "env", "id", "if", "name", "run", "shell", "timeout-minutes", "uses", "with"}
JOB_KEYS = {
    "concurrency", "container", "defaults", "env", "environment", "if", "name", "needs", "outputs", "permissions",
    "runs-on", "services", "steps", "strategy", "timeout-minutes",
}  # fmt: skip
GITLAB_KEYS = {
    "after_script", "allow_failure", "artifacts", "before_script", "cache", "image", "needs", "rules", "script",
    "services", "stage", "tags", "timeout", "variables",
}  # fmt: skip
FILE = re.compile(r"\b(?:scripts|tests|bench|\.ci)/[\w./-]+|\bpyproject\.toml")


def page_blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def github_workflows() -> list[tuple[str, str]]:
    return [("ci.yml", CI.read_text(encoding="utf-8")), ("the page's", page_blocks()[0])]


def jobs_of(text: str) -> dict[str, Any]:
    jobs = yaml.safe_load(text)["jobs"]
    assert isinstance(jobs, dict)
    return jobs


def run_lines(text: str) -> list[str]:
    return [step["run"] for job in jobs_of(text).values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("text", [text for _, text in github_workflows()], ids=[name for name, _ in github_workflows()])
def test_a_workflow_for_github_is_one(text: str) -> None:
    workflow = yaml.safe_load(text)
    # YAML 1.1 takes `on` for a truth value; GitHub does not.
    assert set(workflow) <= {"name", True, "permissions", "concurrency", "env", "jobs", "defaults"}
    assert workflow["permissions"] == {"contents": "read"}
    triggers = workflow[True]
    assert "pull_request" in triggers
    for job in jobs_of(text).values():
        assert set(job) <= JOB_KEYS
        assert {"runs-on", "steps", "timeout-minutes"} <= set(job)
        for step in job["steps"]:
            assert set(step) <= STEP_KEYS
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
        named = set(re.findall(r"\$\{\{ matrix\.(\w+) \}\}", json.dumps(job)))
        assert named == set(job.get("strategy", {}).get("matrix", {}))


def test_ci_runs_what_is_there() -> None:
    lines = run_lines(CI.read_text(encoding="utf-8"))
    named = {name for line in lines for name in FILE.findall(line)}
    named |= set(re.findall(r"cache-dependency-path: (\S+)", CI.read_text(encoding="utf-8")))
    assert {"scripts/test", "scripts/lowest_constraints.py", "scripts/constraints.txt"} <= named
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_ci_takes_the_oldest_python_and_its_extras_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = CI.read_text(encoding="utf-8")
    oldest = project["requires-python"].removeprefix(">=")
    jobs = jobs_of(text)
    assert jobs["test"]["strategy"]["matrix"]["python"][0] == oldest
    assert [step["with"]["python-version"] for step in jobs["lowest"]["steps"] if "with" in step] == [oldest]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert set(extras.split(",")) == set(project["optional-dependencies"])


def test_the_workflow_for_gitlab_is_one() -> None:
    (job,) = yaml.safe_load(page_blocks()[1]).values()
    assert set(job) <= GITLAB_KEYS
    assert all(isinstance(line, str) for line in (*job["script"], *job["after_script"]))
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"]["junit"].startswith(f"{job['artifacts']['paths'][0]}/")
    assert job["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]


def bench_lines() -> list[str]:
    """Every call of the command in both workflows."""
    gitlab = next(iter(yaml.safe_load(page_blocks()[1]).values()))
    lines = [*run_lines(page_blocks()[0]), *gitlab["script"], *gitlab["after_script"]]
    return [line for line in lines if line.startswith("bench ")]


def contexts(line: str) -> Iterator[click.Context]:
    """The contexts of a call as the command reads it, without running it."""
    words = shlex.split(line.partition(">")[0])[1:]
    outer = cli.make_context("bench", list(words))
    yield outer
    name, command, rest = cli.resolve_command(outer, words)
    assert command is not None
    yield command.make_context(name, rest, parent=outer)


def test_both_workflows_gate_and_leave_a_report() -> None:
    lines = bench_lines()
    assert [line.split()[1] for line in lines] == ["ab", "compare"] * 2
    gates = [line for line in lines if line.startswith("bench ab ")]
    assert all("--base origin/main" in line and "--fail-slower 10%" in line for line in gates)
    assert "--format github" in gates[0]


@pytest.mark.parametrize("line", bench_lines())
def test_the_command_takes_each_call(line: str) -> None:
    *_, inner = contexts(line)
    assert inner.params["fail_slower"] == "10%"


def test_the_page_is_short() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 250
    steps = page_blocks()[0].partition("    steps:\n")[2]
    assert 0 < len(steps.splitlines()) <= 16
