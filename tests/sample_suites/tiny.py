"""A sum over ranks that takes next to no time, for tests of what surrounds it."""

from bench.suite import SuiteMetric, Table, Work

DEFAULTS = {"timing": "aligned"}
CHOICES = {"timing": ("aligned", "streamed")}
METRICS = {"slowest_rank_seconds": SuiteMetric("s", "lower", "Median time of the slowest rank.")}


def cases(machine):
    for op in ("first", "second", "third"):
        yield {"op": op}


def prepare(params, rank):
    import torch
    import torch.distributed as dist

    buffer = torch.ones(8)

    def run():
        with rank.span("sum", microbatch=0):
            dist.all_reduce(buffer, group=rank.group)

    def check():
        buffer.fill_(1.0)
        run()
        return (buffer - rank.world_size).abs().max().item(), 0.0

    def derive(observed):
        return {"slowest_rank_seconds": max(observed.rank_seconds["full"])}

    def tables(observed):
        rows = tuple((index, facts["doubled"], None) for index, facts in enumerate(observed.per_rank))
        return {"ranks": Table(("rank", "doubled", "missing"), rows, "of each rank")}

    return Work(
        per_rank=lambda: {"doubled": 2.0 * rank.index},
        tables=tables,
        variants={"full": run, "nothing": lambda: None},
        check=check,
        reset=lambda: buffer.fill_(1.0),
        bytes=32,
        bus_factor=2 * (rank.world_size - 1) / rank.world_size,
        traced_calls=2,
        derive=derive,
    )
