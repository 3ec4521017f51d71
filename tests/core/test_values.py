"""Values as users type them: what is taken, and that what is not taken is named."""

from __future__ import annotations

import re

import pytest

from bench.core.values import parse_param, parse_seconds, parse_share, parse_size
from bench.errors import BenchError
from bench.suite import Param


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("1", 1),
        ("1024", 1024),
        ("64KiB", 65536),
        ("1MiB", 1048576),
        ("4GiB", 4294967296),
        ("2TiB", 2199023255552),
        ("0.5KiB", 512),
        ("1.5MiB", 1572864),
        ("64 kib", 65536),
        (" 1MiB ", 1048576),
        ("8B", 8),
        ("1KB", 1000),
        ("3mb", 3_000_000),
        ("1GB", 1_000_000_000),
        ("1TB", 1_000_000_000_000),
    ],
)
def test_sizes(text: str, num_bytes: int) -> None:
    assert parse_size("num_bytes", text) == num_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MiB",
        "1XB",
        "1.5",
        "0.3KiB",
        "0",
        "-1",
        "-1MiB",
        "1e3",
        "one",
        "1.0e999",
        "1.0e999MiB",
        "nan",
        "inf",
        "1MiB2",
    ],
)
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(BenchError, match=re.escape(f"num_bytes={text}: a whole number")):
        parse_size("num_bytes", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("5min", 300.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        (" 2 m ", 120.0),
        ("0.5", 0.5),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds("--budget", text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "0s", "-5m", "soon", "5 days", "nan", "inf", "infs", "1e999"])
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(BenchError, match=re.escape(f"--budget {text}: a time")):
        parse_seconds("--budget", text)


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.02", 0.02), (" 50 % ", 0.5), ("99.9%", 0.999)])
def test_shares(text: str, share: float) -> None:
    assert parse_share("--precision", text) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("text", ["", "%", "0", "0%", "1", "100%", "2", "-2%", "two", "nan", "nan%", "inf", "2%%"])
def test_what_is_no_share_is_named(text: str) -> None:
    with pytest.raises(BenchError, match=re.escape(f"--precision {text}: a share")):
        parse_share("--precision", text)


@pytest.mark.parametrize(
    ("text", "example", "value"),
    [
        ("true", False, True),
        ("False", True, False),
        ("1MiB", 4, 1048576),
        ("7", 4, 7),
        ("0.5", 1.0, 0.5),
        ("-2", 1.0, -2.0),
        ("bfloat16", "float32", "bfloat16"),
        (" 1MiB ", "x", "1MiB"),
    ],
)
def test_a_parameter_has_the_type_of_its_example(text: str, example: Param, value: Param) -> None:
    parsed = parse_param("p", text, example)
    assert parsed == value
    assert type(parsed) is type(example)


@pytest.mark.parametrize(
    ("text", "example", "complaint"),
    [
        ("yes", False, "p=yes: true or false"),
        ("1", True, "p=1: true or false"),
        ("x", 4, "p=x: a whole number, or a size"),
        ("0", 4, "p=0: a whole number of at least 1"),
        ("x", 0.5, "p=x: a number"),
        ("nan", 0.5, "p=nan: a number"),
        ("-inf", 0.5, "p=-inf: a number"),
        (" ", "x", "p=: a value is missing"),
    ],
)
def test_what_a_parameter_cannot_take_is_named(text: str, example: Param, complaint: str) -> None:
    with pytest.raises(BenchError, match=re.escape(complaint)):
        parse_param("p", text, example)


def test_a_whole_share_is_taken_only_if_it_may_be() -> None:
    assert parse_share("--min-decided", "100%", may_be_whole=True) == 1.0
    with pytest.raises(BenchError, match="above 0% and up to 100%"):
        parse_share("--min-decided", "101%", may_be_whole=True)
    with pytest.raises(BenchError, match="above 0% and below 100%"):
        parse_share("--threshold", "100%")
