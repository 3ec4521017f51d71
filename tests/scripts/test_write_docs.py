"""The pages that follow from the code are what the code says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.catalog.reference import publisher
from bench.records.lines import decoding
from tests import DATA, ROOT


def test_the_generated_pages_are_what_the_code_says() -> None:
    command = [sys.executable, "scripts/write_docs.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_names_every_field_of_every_kind() -> None:
    schema = json.loads((ROOT / "bench" / "docs" / "result_file.schema.json").read_text())
    page = (ROOT / "bench" / "docs" / "result_file.md").read_text()
    for kind, struct in decoding.KINDS.items():
        properties = schema["$defs"][struct.__name__]["properties"]
        assert properties["kind"]["const" if "const" in properties["kind"] else "enum"] in (kind, [kind])
        assert set(struct.__struct_fields__) == set(properties) - {"kind"}
        assert all(f"| `{name}`" in page for name in struct.__struct_fields__)


def test_every_field_of_every_part_has_its_place_on_a_page() -> None:
    docs = ROOT / "bench" / "docs"
    schema = json.loads((docs / "result_file.schema.json").read_text())
    page = (docs / "result_fields.md").read_text()
    tables = {name for name, row in schema["$defs"].items() if "properties" in row}
    parts = tables - {struct.__name__ for struct in decoding.KINDS.values()}
    assert len(parts) > 15
    for name in (*parts, "Span"):
        assert f"| **{name}** |" in page
        section = page.partition(f"| **{name}** |")[2].partition("\n| **")[0]
        assert all(f"`{field}`" in section for field in schema["$defs"][name].get("properties", {}))


@pytest.mark.parametrize("name", ["metrics", "normal", "result_fields", "result_file"])
def test_a_generated_page_is_short_and_says_that_it_is_generated(name: str) -> None:
    text = (ROOT / "bench" / "docs" / f"{name}.md").read_text()
    assert len(text.splitlines()) < 250
    assert "Written by `scripts/write_docs.py`" in text


def test_a_figure_of_few_sources_is_no_range() -> None:
    """A row of the page says how many publishers it rests on, and from three on what they span."""
    rows = [line for line in (ROOT / "bench" / "docs" / "normal.md").read_text().splitlines() if "source" in line]
    ranges = [row for row in rows if row.startswith("| ") and "sources)" in row]
    assert ranges
    assert not [row for row in ranges if "(1 source" in row or "(2 sources" in row]


def test_a_publisher_is_counted_once() -> None:
    assert publisher("NVIDIA/nvbandwidth@66746a3 README.md") == publisher(
        "NVIDIA/dgxc-benchmarking@841f546 nccl/README.md"
    )
    assert publisher("NVIDIA/nccl#1222") != publisher("NVIDIA/nccl#1264")
    dell = "mlcommons/training_results_v5.{} Dell/results/1xXE9680/llama2_70b_lora"
    assert publisher(dell.format(0)) == publisher(dell.format(1)) == "MLPerf, Dell"


def test_a_saved_file_has_no_field_that_the_schema_lacks() -> None:
    for line in (DATA / "schema1.jsonl").read_bytes().splitlines():
        _, unknown = decoding.decode_known(line)
        assert unknown == []
