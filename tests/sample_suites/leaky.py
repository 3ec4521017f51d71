"""Says a secret wherever a suite can say something, so that tests can see that no result file keeps it."""

import os

from bench.suite import Table, Work

SECRET = os.environ.get("LEAKY_SECRET", "nothing")
CHOICES = {"op": ("say", "raise")}
METRICS = {"said": ("count", "higher", f"Number of times that {SECRET} was said.")}


def cases(machine):
    yield {"op": "say", "source": "disk"}
    yield {"op": "raise", "source": "disk"}


def prepare(params, rank):
    if params["op"] == "raise":
        raise OSError(f"cannot fetch https://bob:{SECRET}@store.example/x with password={SECRET}")
    total = [0]

    def run():
        total[0] += 1

    return Work(
        variants={"full": run},
        check=lambda: (0.0, 0.0),
        clock="host",
        notes=(f"fetched with {SECRET}",),
        per_rank=lambda: {"token": SECRET},
        derive=lambda observed: {"said": 1.0},
        tables=lambda observed: {"said": Table(("what",), ((SECRET,),))},
    )
