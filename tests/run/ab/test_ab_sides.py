"""The two sides of `bench ab`: what can be set on one, by which interpreter, and what is refused."""

from __future__ import annotations

import shlex
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.cli.run_command import given_options
from bench.errors import BenchError
from bench.run.ab.ab_sides import PairSchedule, Setting, first_words, side, sides
from bench.run.ab.child import probe
from tests.support.secret_table import SECRETS


def side_of(*texts: str, name: str = "b", python: str | None = None) -> Setting:
    return side(name, texts, python, "/here/python", given_options)


def test_a_side_is_variables_and_options_and_says_so() -> None:
    made = side_of("NCCL_ALGO=Tree", "--backend gloo --set dtype=float32", "LD_PRELOAD=a b", "--device cpu")
    assert made.variables == (("LD_PRELOAD", "a b"), ("NCCL_ALGO", "Tree"))
    assert made.options == ("--backend", "gloo", "--set", "dtype=float32", "--device", "cpu")
    assert made.setting == "NCCL_ALGO=Tree LD_PRELOAD='a b' --backend gloo --set dtype=float32 --device cpu"
    assert (made.device, made.python) == ("cpu", "/here/python")
    # Words, never a shell: what a shell would do with them stays undone.
    assert side_of("--backend '$(false)' --set 'x=a;b'").options == ("--backend", "$(false)", "--set", "x=a;b")
    assert side_of("EMPTY=", "EQUALS=a=b").variables == (("EMPTY", ""), ("EQUALS", "a=b"))
    assert side_of().setting == "unchanged"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NCCL_ALGO", "NAME=VALUE"),
        ("1ST=x", "NAME=VALUE"),
        ("A B=x", "NAME=VALUE"),
        ("ÄRGER=x", "NAME=VALUE"),
        ("=x", "NAME=VALUE"),
        ("", "NAME=VALUE"),
        ("--backend 'gloo", "mind the quotes"),
        ("--no-such-option", "bench run --help"),
        ("--help", "bench run --help"),
        ("--ranks two", "bench run --help"),
        ("--launches 5", "--pairs"),
        ("--resume x.jsonl", "measured again"),
        ("--backend gloo compute", "same SUITEs"),
        ("--budget 5m", "both sides together"),
        ("--one-launch 1", "itself"),
        ("-o elsewhere", "folder of both files"),
        ("--allow-unlike", "measured again"),
    ],
)
def test_what_a_side_cannot_have_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        side_of(text)
    assert str(caught.value).startswith("--b ")
    assert "\n" not in str(caught.value)


def test_what_is_set_on_a_side_is_recorded_without_its_secrets() -> None:
    made = side_of("PROXY=http://bob:hunter2@proxy:80", f"HF={SECRETS['Hugging Face'][0]}", "NCCL_ALGO=Tree")
    assert made.setting == "PROXY='http://(masked)@proxy:80' HF='(masked)' NCCL_ALGO=Tree"
    # The launches get all of it.
    assert dict(made.variables)["PROXY"] == "http://bob:hunter2@proxy:80"


@pytest.mark.parametrize("name", ["HF_TOKEN", "api_key", "MY_SECRET", "PGPASSWORD"])
def test_secrets_are_refused_and_their_value_not_repeated(name: str) -> None:
    with pytest.raises(BenchError, match="secret") as caught:
        side_of(f"{name}=hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_variable_is_set_once() -> None:
    with pytest.raises(BenchError, match="twice"):
        side_of("OMP_NUM_THREADS=1", "OMP_NUM_THREADS=2")


def test_sides_have_to_differ_unless_both_are_said() -> None:
    def both(a: Sequence[str] = (), b: Sequence[str] = (), b_python: str | None = None) -> tuple[Setting, Setting]:
        return sides((a, b), (None, b_python), sys.executable, given_options)

    for same in (both, lambda: both(b_python=sys.executable)):
        with pytest.raises(BenchError, match="do not differ"):
            same()
    a, b = both(b=["NCCL_ALGO=Tree"])
    assert (a.setting, b.setting) == ("unchanged", "NCCL_ALGO=Tree")
    a, b = both(["X=1", "Y=2"], ["Y=2", "X=1"])  # an A/A check
    assert a.does_as(b)
    a, b = sides(((), ()), (sys.executable, sys.executable), "/here/python", given_options)
    assert a.does_as(b)
    assert a.python == sys.executable


def test_an_interpreter_has_to_be_there_and_have_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no program of that name"):
        side_of(python=str(tmp_path / "python"))
    (tmp_path / "bin").mkdir()
    # The same program outside its environment: it has no torch.
    (tmp_path / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    with pytest.raises(BenchError, match=r"did you mean .*/bin/python\?"):
        side_of(python=str(tmp_path))
    if sys.prefix != sys.base_prefix:
        with pytest.raises(BenchError, match=r"lacks .*torch"):
            probe(side_of("PYTHONPATH=", python=str(tmp_path / "bin" / "python")))
    for words, said in (("exit 3", "not a working Python"), ("echo hello", "cannot be started as a Python")):
        script = tmp_path / "script"
        script.write_text(f"#!/bin/sh\n{words}\n")
        script.chmod(0o755)
        with pytest.raises(BenchError, match=said):
            probe(side_of(python=str(script)))
    assert probe(side_of(python=sys.executable)).startswith(f"Python {sys.version.split()[0]}, torch ")


def test_an_environment_is_not_left_by_following_its_link(tmp_path: Path) -> None:
    venv.create(tmp_path / "pr", symlinks=True, with_pip=False)
    assert side_of(python=str(tmp_path / "pr" / "bin" / "python")).python == str(tmp_path / "pr" / "bin" / "python")


def test_a_side_s_own_setting_takes_the_place_of_a_common_one() -> None:
    own = side_of("--set num_bytes=4MiB")
    given = ["--preset", "smoke", "--set", "num_bytes=1MiB", "--set", "op=all_reduce"]
    words = first_words(given, (), own, PairSchedule(2, None, None), "try", Path("b.jsonl"), "{}")
    assert shlex.join(words).startswith("run --preset smoke --set op=all_reduce --set num_bytes=4MiB --launcher")
