"""Suites and importers of installed packages: a folder on sys.path with the files that pip would write."""

from __future__ import annotations

from pathlib import Path


def install_package(
    site: Path, name: str, entries: dict[str, str], group: str = "bench.suites", **modules: str
) -> None:
    """Put modules (name -> source) and a package's entry points (name -> module) into a folder on sys.path."""
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    rows = [f"{entry} = {module}" for entry, module in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *rows, ""]))
