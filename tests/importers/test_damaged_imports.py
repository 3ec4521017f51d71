"""Damaged files of other tools through `bench import`: the product's own error or a result that can be read.

A fixed seed; `--hypothesis-profile long` tries 5,000 files.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.importers.formats import TOOLS
from tests import DATA
from tests.support.damage import call, damaged, damaged_text

SEEDS = sorted(path for path in (DATA / "import").iterdir() if path.is_file())
OPTIONS = {
    "--op": ["all_reduce", "all_reduce", "x", "\x1b[31m", "a,b=[c]", "a" * 3000],
    "--ranks": ["1", "4", "6", "8"],
    "--device": ["NVIDIA H200", "\x1b[31m"],
    "--from": TOOLS,
}
NEEDED = {"nccl_old.txt": ("--op", "all_gather"), "osu.txt": ("--ranks", "8")}
"""Options without which a file is refused even if it is whole."""
NUM_EXAMPLES = 400


@dataclass(frozen=True)
class DamagedInput:
    """A file of another tool with wrong places, and options for it."""

    data: bytes
    options: tuple[str, ...]


@cache
def seeds() -> list[tuple[str, tuple[str, ...]]]:
    """(text, options needed) of files of all tools, the last one of bench's own export for pytest-benchmark."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "own.pytest-benchmark.json"
        code, output = call("show", str(DATA / "schema1.jsonl"), "-o", str(path))
        assert code == 0, output
        own = json.loads(path.read_text())
    own["benchmarks"] = own["benchmarks"][:3]
    return [*((path.read_text(), NEEDED.get(path.name, ())) for path in SEEDS), (json.dumps(own, indent=1), ())]


@st.composite
def inputs(draw: st.DrawFn) -> DamagedInput:
    text, options = draw(st.sampled_from(seeds()))
    is_json = text.startswith("{") and draw(st.booleans())
    data = draw(damaged([json.loads(text)])).encode() if is_json else draw(damaged_text(text))
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(sorted(OPTIONS)))
        options = (*options, name, draw(st.sampled_from(OPTIONS[name])))
    return DamagedInput(data, options)


def outcome(damage: DamagedInput, folder: Path) -> int:
    """Exit code of the import. Raises AssertionError if a command prints, or writes, what it must not."""
    source, out = folder / "in.txt", folder / "out.jsonl"
    source.write_bytes(damage.data)
    out.unlink(missing_ok=True)
    code, output = call("import", str(source), "-o", str(out), *damage.options)
    assert code in {0, 2, 3}, output
    assert out.exists() == (code != 2)
    assert code != 2 or re.fullmatch("bench: error: .*\n", output), output
    assert _is_printable(output), output
    if code != 2:
        for command in (("show", str(out)), ("compare", str(out), str(out))):
            shown, output = call(*command)
            assert shown == 0, output
            assert _is_printable(output), output
    return code


def _is_printable(text: str) -> bool:
    return re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text) is None


def test_a_damaged_import_ends_in_a_readable_result_or_in_one_line(tmp_path: Path) -> None:
    codes = set()

    @settings(
        max_examples=max(NUM_EXAMPLES, settings().max_examples),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def each(damage: DamagedInput) -> None:
        codes.add(outcome(damage, tmp_path))

    each()
    assert codes == {0, 2, 3}
