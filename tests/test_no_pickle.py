"""Nothing that could run code comes over the network or out of a file: no pickle, no `eval`, no objects of torch.

The exceptions are parts of torch that suites measure, and that pickle messages of the ranks: bench/docs/clusters.md
names them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests import ROOT

SOURCES = sorted(path for top in ("bench", "suites") for path in (ROOT / top).rglob("*.py"))
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "yaml"}
OBJECT_CALLS = {
    "all_gather_object", "gather_object", "broadcast_object_list", "scatter_object_list", "send_object_list",
    "recv_object_list", "read_pickle", "to_pickle", "rpc_sync", "rpc_async", "init_rpc",
}  # fmt: skip
BUILTINS = {"eval", "exec", "__import__"}
LOADERS = {("torch", "load"), ("torch", "save"), ("np", "load"), ("numpy", "load")}
"""Of these, ones that unpickle unless they are told not to."""
CHECKPOINT, PIPELINING = "torch.distributed.checkpoint", "torch.distributed.pipelining"
TORCH_PICKLES = (CHECKPOINT, PIPELINING, "torch.distributed.rpc", "torch.package")
"""Parts of torch that pickle messages of the ranks."""
EXCEPTIONS = {
    ("bench/workloads/storage/checkpoints.py", CHECKPOINT),
    ("bench/workloads/parallel/pipeline.py", PIPELINING),
    ("bench/workloads/parallel/torch_schedules.py", PIPELINING),
}


def names(tree: ast.AST) -> Iterator[str]:
    """What a source has that could unpickle or run text, each by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # of `from torch import load` too
        elif isinstance(node, ast.Attribute):
            yield f"{ast.unparse(node.value)}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield f"{node.func.id}()"
        if isinstance(node, ast.keyword) and node.arg in ("weights_only", "allow_pickle"):
            yield f"{node.arg}={ast.unparse(node.value)}"


def dangers(source: str) -> set[str]:
    found = set()
    for name in names(ast.parse(source)):
        head, last = name.partition(".")[0], name.rpartition(".")[2].removesuffix("()")
        torchs = [part for part in TORCH_PICKLES if name.startswith(part)]
        runs_text = name.endswith("()") and last in BUILTINS
        unpickles = (head, last) in LOADERS or name in ("weights_only=False", "allow_pickle=True")
        if torchs:
            found.update(torchs)
        elif head in MODULES or last in MODULES or last in OBJECT_CALLS or runs_text or unpickles:
            found.add(name)
    return found


def test_no_source_unpickles_or_runs_text_but_parts_of_torch_that_are_named() -> None:
    found = {(str(path.relative_to(ROOT)), danger) for path in SOURCES for danger in dangers(path.read_text())}
    assert found == EXCEPTIONS
    text = " ".join((ROOT / "bench" / "docs" / "clusters.md").read_text().split())
    (item,) = [item for item in text.split(" - ") if "pickle" in item]
    assert [part for part in (CHECKPOINT, PIPELINING) if part in item] == [CHECKPOINT, PIPELINING]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load(f)", "from torch import load",
        "import torch.distributed as dist\ndist.all_gather_object(a, b)", "import pandas as pd\npd.read_pickle(f)",
        "from torch.distributed import broadcast_object_list", "eval('1')", "exec(text)", "f(allow_pickle=True)",
        "from torch.distributed.pipelining import PipelineStage", "import marshal as m", "__import__('os')",
        "f(weights_only=False)", "import torch.distributed.rpc", "dist.gather_object(a)",
    ],
)  # fmt: skip
def test_it_is_found(source: str) -> None:
    assert dangers(source)


@pytest.mark.parametrize("source", ["model.eval()", "json.loads(text)", "os.execve(a, b, c)", "from json import load"])
def test_the_harmless_is_not(source: str) -> None:
    assert not dangers(source)
