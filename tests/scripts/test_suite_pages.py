"""The pages on suites say all that the suites have, and the example and messages of the page for authors are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.measure.planning import suite_contract
from bench.measure.planning.suite_loader import builtin_names, load
from bench.suite import Machine, Work
from tests import ROOT

DOCS = ROOT / "bench" / "docs"
SUITES = (DOCS / "suites.md").read_text(encoding="utf-8")
OWN = (DOCS / "own_suites.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n(.*?)```", OWN, re.DOTALL)[0]


def machine(device_type: str, preset: str) -> Machine:
    return Machine(4, device_type, preset, 2**36, 4, 4)


def row_of(suite: str) -> str:
    return next(line for line in SUITES.splitlines() if line.startswith(f"| `{suite}` |"))


def section_of(suite: str) -> str:
    return SUITES.partition(f"**`{suite}`**\n")[2].partition("\n**`")[0].partition("\n## ")[0]


@pytest.mark.parametrize("name", builtin_names())
def test_every_suite_and_operation_has_its_place(name: str) -> None:
    operations = load(name).choices.get("op", ())
    assert all(f"`{operation}`" in row_of(name) for operation in operations)
    assert section_of(name)


@pytest.mark.parametrize("name", builtin_names())
def test_every_parameter_of_a_case_has_its_place(name: str) -> None:
    suite = load(name)
    varied = {
        parameter
        for device in ("cpu", "cuda")
        for preset in ("smoke", "standard", "full")
        for row in suite.module.cases(machine(device, preset))
        for parameter in row
    }
    # Of the parameters that all suites have alike only those that change the work are told of every suite.
    told = varied - {"op", "timing", "dtype"}
    text = section_of(name)
    assert not sorted(parameter for parameter in told if f"`{parameter}`" not in text)


@pytest.mark.parametrize("name", builtin_names())
def test_the_main_metrics_are_metrics(name: str) -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    main = re.findall(r"`(\w+)`", row_of(name).rstrip(" |").rpartition("|")[2])
    assert main
    assert all(f"| `{metric}` |" in text for metric in main)


def test_the_page_names_no_suite_that_is_gone() -> None:
    named = re.findall(r"^\*\*`(\w+)`\*\*$", SUITES, re.MULTILINE)
    assert sorted(named) == sorted(builtin_names())


def test_every_field_of_work_is_on_the_page_for_authors() -> None:
    absent = {"hardware_flops", "check_after", "traced_variants"}  # of use to few: bench/suite.py has them
    fields = set(Work.__dataclass_fields__) - absent
    assert not sorted(field for field in fields if f"`{field}`" not in OWN)


def test_the_example_is_a_suite_of_twenty_lines(tmp_path: Path) -> None:
    path = tmp_path / "sum.py"
    path.write_text(EXAMPLE, encoding="utf-8")
    suite = load(str(path))
    assert [row["num_elements"] for row in suite.module.cases(machine("cpu", "smoke"))] == [1024, 1048576]
    assert suite.summary == "Sum: every rank's vector is added up on all ranks."
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 20


def message_of(tmp_path: Path, old: str, new: str) -> str:
    """Message for the example with one mistake in it."""
    assert old in EXAMPLE
    path = tmp_path / "sum.py"
    path.write_text(EXAMPLE.replace(old, new), encoding="utf-8")
    with pytest.raises(BenchError) as caught:
        load(str(path))
    return str(caught.value)


def test_the_messages_for_files_that_cannot_be_loaded_are_those_of_the_page(tmp_path: Path) -> None:
    said = message_of(tmp_path, "def cases", "def case").partition("is not a suite")[2].replace("`", "")
    assert said
    assert f"is not a suite{said}" in OWN
    said = message_of(tmp_path, "import Work\n", "import Works\n")
    assert "ImportError: cannot import name 'Works' from 'bench.suite'" in said
    assert said.endswith("(sum.py, line 3); fix the file")
    assert "(sum.py, line 3); fix the file" in OWN


def test_the_messages_for_broken_contracts_are_those_of_the_page() -> None:
    def check() -> float:
        return 0.0

    with pytest.raises(BenchError, match="check") as caught:
        suite_contract.to_check(check, check())
    assert str(caught.value).partition(" (")[0].startswith("check() has to return")
    assert str(caught.value).rpartition(" (")[0] in OWN
    with pytest.raises(BenchError, match="prepare") as caught:
        suite_contract.to_work(check, {})
    assert str(caught.value).partition("it returned")[0] in OWN
    with pytest.raises(BenchError, match="derive") as caught:
        suite_contract.to_derived(check, {"speed": 1.0}, {})
    assert str(caught.value).rpartition(" (")[0] in OWN


@pytest.mark.parametrize(
    "name", ["suites", "own_suites", "reports", "explaining", "predicting", "normal", "limits", "result_fields"]
)
def test_a_page_begins_with_its_title_and_its_question_and_is_short(name: str) -> None:
    lines = (DOCS / f"{name}.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert "?" in " ".join(lines[1:6])
    assert len(lines) < 250
    assert not [line for line in lines if len(line) > 120 and not line.startswith(("|", "<!--"))]
