"""`bench` as one of two ranks on ONE GPU, over gloo with CUDA tensors, for torchrun: NCCL refuses a GPU twice."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any


def share_the_gpu() -> None:
    from bench.measure.system import backends, environment

    both = dataclasses.replace(backends.BACKENDS["gloo"], device_type="cuda", dtypes=("bfloat16", "float32"))
    backends.BACKENDS["gloo"] = both
    backends.DEFAULT_FOR_DEVICE["cuda"] = "gloo"
    described = environment.describe_rank

    def without_uuid(*arguments: Any) -> dict[str, Any]:
        return described(*arguments) | {"uuid": None}

    environment.describe_rank = without_uuid


if __name__ == "__main__":
    if sys.argv[1] == "cuda":
        share_the_gpu()
    from bench.cli import main

    main(sys.argv[2:])
