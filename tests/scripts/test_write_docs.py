"""The pages that follow from the code are what the code says."""

from __future__ import annotations

import json
import subprocess
import sys

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


def test_a_saved_file_has_no_field_that_the_schema_lacks() -> None:
    for line in (DATA / "schema1.jsonl").read_bytes().splitlines():
        _, unknown = decoding.decode_known(line)
        assert unknown == []
