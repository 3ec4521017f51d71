"""Counted work on one CPU core, of which a variable makes more: a slowdown of known size."""

import os

from bench.suite import Work

UNITS = 50_000


def cases(machine):
    yield {"op": "varied"}
    yield {"op": "constant"}


def prepare(params, rank):
    factor = int(os.environ.get("COUNTED_FACTOR", "1")) if params["op"] == "varied" else 1
    units = UNITS * factor

    def run():
        counted = 0
        for _ in range(units):
            counted += 1
        return counted

    def check():
        return float(run() - units), 0.0

    return Work(variants={"full": run}, check=check)
