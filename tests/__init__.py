"""Tests, in folders that mirror the rooms of `bench`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
