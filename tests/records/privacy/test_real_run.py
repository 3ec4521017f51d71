"""One real run of a suite that says a secret wherever it can."""

from __future__ import annotations

from pathlib import Path

from bench.core.masking.placeholders import SET
from bench.records.file import load
from tests.support.command import SUITES, call
from tests.support.secret_table import SECRETS

SECRET = SECRETS["GitHub, personal"][0]
LEAKY = str(SUITES / "leaky.py")


def test_a_run_leaves_no_secret_in_its_file_and_its_name(tmp_path: Path) -> None:
    variables = {"LEAKY_SECRET": SECRET, "NCCL_NET_URL": f"http://bob:{SECRET}@proxy", "TORCH_TOKEN": SECRET}
    words = ("run", LEAKY, "--preset", "smoke", "--ranks", "2", "--device", "cpu", "--label", f"of {SECRET}")
    done = call(*words, "-o", str(tmp_path), **variables)
    assert done.returncode == 3, done.stderr  # one of its two cases raises
    [path] = tmp_path.iterdir()
    assert path.name.startswith("of_masked-")
    assert SECRET not in path.read_text()
    result = load(path)
    assert result.label == "of (masked)"
    assert result.environment.variables["NCCL_NET_URL"] == SET
    assert "TORCH_TOKEN" not in result.environment.variables
    said, raised = result.latest()
    assert "fetched with (masked)" in said.notes
    assert said.per_rank == [{"token": "(masked)"}] * 2
    assert said.tables["said"].rows == [["(masked)"]]
    assert "cannot fetch https://(masked)@store.example/x with password=(masked)" in (raised.reason or "")
    assert SECRET not in done.stdout + done.stderr


def test_a_secret_in_a_parameter_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = call("run", LEAKY, "--set", f"source={SECRET}", "--ranks", "2", "--device", "cpu", "-o", str(tmp_path))
    assert done.returncode == 2
    assert "the value of parameter source looks like a secret" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
