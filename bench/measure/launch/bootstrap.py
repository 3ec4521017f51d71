"""Command lines by which an interpreter runs this very source of `bench`, whatever it has installed.

Ranks are started so, and the runs of `bench ab`, whose two interpreters have to measure with the same source.
"""

from __future__ import annotations

from pathlib import Path

# Only `bench` and `suites` are taken from where they lie here, ahead of others of that name: where the product is
# installed, the folder around it is another interpreter's site-packages, and its torch must not come along. A checkout
# has nothing else in it and is put on the path as well, for processes that the ranks may start themselves.
_TEXT = """
import importlib, os, sys
from importlib.machinery import PathFinder
root, entry = sys.argv[1:3]
del sys.argv[1:3]
class Source:
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [root]) if name in ("bench", "suites") else None
sys.meta_path.insert(0, Source)
if os.path.exists(os.path.join(root, "pyproject.toml")) and root not in sys.path:
    sys.path.append(root)
module, _, function = entry.partition(":")
getattr(importlib.import_module(module), function)()
"""


def command(python: str, entry: str, *arguments: str, root: Path | None = None) -> list[str]:
    """The words that make `python` call `entry`, a `module:function` of this source, with `sys.argv[1:]` = arguments.

    `root` is the folder of another source of `bench` to take in place of this one.

    -P keeps the working directory off sys.path: a user's own bench.py or suites/ there must not be imported.
    """
    source = Path(__file__).resolve().parents[3] if root is None else root
    return [python, "-P", "-c", _TEXT, str(source), entry, *arguments]
