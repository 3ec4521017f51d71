"""Expert parallelism: a mixture-of-experts layer whose experts are split over the ranks, forward and backward.

What is measured: the time of one layer: dispatch of the tokens to the ranks of their experts, the experts' MLPs, and
the way back. Why: both ways are all-to-alls of uneven parts, the most demanding traffic that training has, and a rank
whose experts are busier holds up all others. The routing is made, not learned (no router is timed), so that its
unevenness can be set: `imbalance` is the share of the tokens that choose the busiest expert; top_k / num_experts is
even. Tokens are neither dropped nor padded. Besides the time:

    load_imbalance          rows of the busiest rank / mean over the ranks: a bound on what unevenness costs the experts
    dispatch_combine_share  share of the time in the all-to-alls, mean over ranks, waiting for busier ranks included;
                            from a separate traced pass
    communication_share     1 - compute_only / full: without that waiting, for the busiest rank sets compute_only

Variants, timed in turn with the case (`full`): `compute_only`, the same code over a group whose collectives return at
once; `communication`, the same messages only. `one_device`: all tokens and experts, which every rank runs
by itself at the same time. The timed work is checked: output and all gradients against one device.
Machinery: bench/workloads/parallel/expert.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from bench.parallelism import flops
from bench.parallelism.expert_routing import Routing
from bench.suite import ITEM_BYTES, Check, Machine, Observed, Params, Presets, SuiteMetric, Work, skip_if

if TYPE_CHECKING:
    import torch.distributed as dist

    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.timed_results import KeptResults

PRODUCTS_IN = "dtype"
DEFAULTS: Params = {"dtype": "float32", "direction": "forward_backward", "timing": "aligned"}
CHOICES = {
    "op": ("moe",),
    "dtype": ("float32", "bfloat16", "float16"),
    "direction": ("forward", "forward_backward"),
    "timing": ("aligned", "streamed"),
}
METRICS = {
    "load_imbalance": SuiteMetric(
        "x", "lower", "Rows that the experts of the busiest rank get, over the mean of the ranks."
    ),
    "dispatch_combine_share": SuiteMetric(
        "share",
        "lower",
        "Share of the time in the all-to-alls, traced, mean over the ranks, waiting for busier ranks included.",
    ),
    "communication_alone_seconds": SuiteMetric(
        "s", "lower", "Time of the same messages with no computation between them."
    ),
}
COMMUNICATION = "communication"
COMMUNICATING_SPANS = ("dispatch", "combine")
TRACED_CALLS = 5

# At the base point all experts are equally busy: imbalance = top_k / num_experts.
BASE: dict[str, Params] = {
    "cpu": {"hidden": 256, "ffn_hidden": 512, "num_experts": 8, "top_k": 2, "imbalance": 0.25, "tokens_per_rank": 256},
    # Mixtral 8x7B (Jiang et al. 2024, table 1).
    "cuda": {
        "hidden": 4096,
        "ffn_hidden": 14336,
        "num_experts": 8,
        "top_k": 2,
        "imbalance": 0.25,
        "tokens_per_rank": 4096,
        "dtype": "bfloat16",
    },
}
STANDARD: tuple[Params, ...] = (
    {"imbalance": 0.5},
    {"imbalance": 1.0},
    {"top_k": 1, "imbalance": 0.125},
    {"direction": "forward"},
)
CHANGES: Presets[tuple[Params, ...]] = Presets(
    cpu={
        "smoke": ({},),
        "standard": STANDARD,
        "full": (
            {"num_experts": 16, "imbalance": 0.125},
            {"num_experts": 64, "top_k": 8, "imbalance": 0.125, "ffn_hidden": 64},
            {"tokens_per_rank": 1024},
            {"dtype": "bfloat16"},
        ),
    },
    cuda={
        "smoke": ({},),
        "standard": STANDARD,
        "full": (
            # DeepSeek-V3 (2024, section 4.2): 256 experts of 2048, of which a token takes 8.
            {"hidden": 7168, "ffn_hidden": 2048, "num_experts": 256, "top_k": 8, "imbalance": 0.03125},
            {"tokens_per_rank": 16384},
            {"tokens_per_rank": 128},
        ),
    },
)
NOTES = (
    "one_device: every rank runs all tokens and experts by itself, all at the same time",
    "compute_only: the same code over a group whose collectives send nothing",
    "dispatch_combine_share holds the waiting for busier ranks",
)


def cases(machine: Machine) -> Iterator[Params]:
    """The base point varied one factor at a time; the presets nest."""
    base = BASE[machine.device_type]
    for change in CHANGES.through(machine):
        row: Params = {"op": "moe", **base, **change}
        # On many ranks: the fewest experts of which each rank has one, as busy beyond the even share as asked for.
        busier = float(row["imbalance"]) * int(row["num_experts"]) / int(row["top_k"])
        row["num_experts"] = -(-int(row["num_experts"]) // machine.world_size) * machine.world_size
        row["imbalance"] = min(1.0, busier * int(row["top_k"]) / int(row["num_experts"]))
        yield row


def _routing(params: Params) -> Routing:
    return Routing(
        int(params["tokens_per_rank"]), int(params["num_experts"]), int(params["top_k"]), float(params["imbalance"])
    )


def _bytes_needed(params: Params, num_ranks: int, one_device: bool) -> int:
    """Bytes that the busiest rank holds at the worst moment; `one_device`: also the whole layer's call and its check.

    Counted from the shapes. Every rank draws the whole layer, takes its share twice (full and compute_only), and keeps
    the whole only for `one_device`. Of its share: weights and gradients twice, its own rows sent and returned, and for
    each row that arrives three of hidden (arrived, sorted, output) and five of ffn_hidden, with as many gradients.
    """
    routing = _routing(params)
    hidden, ffn_hidden = int(params["hidden"]), int(params["ffn_hidden"])
    item = ITEM_BYTES[str(params["dtype"])]
    weights, tokens = 3 * routing.num_experts * hidden * ffn_hidden, num_ranks * routing.num_tokens
    whole = weights + 2 * tokens * hidden
    share = 4 * weights // num_ranks + routing.num_tokens * (4 + 4 * routing.top_k) * hidden
    share += max(routing.rank_loads(num_ranks)) * 2 * (3 * hidden + 5 * ffn_hidden)
    if one_device:
        call = weights + tokens * routing.top_k * (4 * hidden + 5 * ffn_hidden)
        whole += call
        whole += (2 * weights + tokens * hidden + call) * 4 // item if item < 4 else 0
        return item * (whole + share)
    drawn = whole + 2 * (weights // num_ranks + 2 * routing.num_tokens * hidden)
    return item * max(drawn, share)


def memory(params: Params, machine: Machine) -> int:
    """Without the variant on one device, which is left out if there is no room for it."""
    if _routing(params).objection(machine.world_size):
        return 0  # prepare says why
    return _bytes_needed(params, machine.world_size, one_device=False)


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip with one rank, and for a routing that there cannot be."""
    routing = _routing(params)
    skip_if("one rank: there is no other rank to send tokens to" if rank.world_size == 1 else None)
    skip_if(routing.objection(rank.world_size))
    import torch.distributed as dist

    from bench.workloads.parallel.tensor import silent_group

    silent = silent_group()
    variants, check, notes = _variants(params, routing, rank, silent)
    num_tokens = rank.world_size * routing.num_tokens
    forward = flops.moe_forward(num_tokens, routing.top_k, int(params["hidden"]), int(params["ffn_hidden"]))
    load_imbalance = routing.load_imbalance(rank.world_size)

    def derive(observed: Observed) -> Mapping[str, float | None]:
        return {
            "load_imbalance": load_imbalance,
            "dispatch_combine_share": communicating_share(observed),
            "communication_alone_seconds": observed.seconds.get(COMMUNICATION),
        }

    return Work(
        variants=dict(variants),
        check=check,
        timed_checks={name: kept.timed_check for name, kept in variants.items()},
        clock="host",  # the host reads how many rows come
        close=lambda: dist.destroy_process_group(silent),
        flops=forward * flops.PER_FORWARD[str(params["direction"])],
        flops_dtype=str(params["dtype"]),
        tokens=num_tokens,
        traced_calls=TRACED_CALLS,
        derive=derive,
        notes=notes,
    )


def communicating_share(observed: Observed) -> float | None:
    """Time in dispatch and combine over the time of the traced calls, mean over the ranks."""
    shares = []
    for rank, calls in enumerate(observed.traced_call_ns):
        spent = sum(s.duration_ns for s in observed.spans if s.rank == rank and s.kind in COMMUNICATING_SPANS)
        if not sum(calls):
            return None
        shares.append(spent / sum(calls))
    return sum(shares) / len(shares) if shares else None


def _variants(
    params: Params, routing: Routing, rank: RankContext, silent: dist.ProcessGroup
) -> tuple[dict[str, KeptResults], Callable[[], Check], tuple[str, ...]]:
    """The variants, check and notes; without `one_device` if memory has no room for it."""
    from dataclasses import replace

    import torch

    from bench.workloads.model.timed_results import KeptResults, checked_with
    from bench.workloads.parallel.expert import (
        Exchange,
        Layer,
        SplitLayer,
        check_call,
        one_device_call,
        rank_layer,
        split_layer,
        whole_layer,
    )
    from bench.workloads.parallel.tensor import Ranks

    dtype: torch.dtype = getattr(torch, str(params["dtype"]))
    backward = params["direction"] == "forward_backward"
    talking, mute = (
        Ranks(group, rank.index, rank.world_size, axis=f"experts_{group.group_name}") for group in (rank.group, silent)
    )

    def pair(of: Routing, hidden: int, ffn_hidden: int) -> tuple[Layer, SplitLayer]:
        whole = whole_layer(of, rank.world_size, hidden, ffn_hidden, rank.generator(), rank.device, dtype)
        return whole, split_layer(rank_layer(whole, talking), of, Exchange(talking, rank.span), backward)

    whole, full = pair(routing, int(params["hidden"]), int(params["ffn_hidden"]))
    quiet = Exchange(mute, rank.span, silent=True)
    variants = {
        "full": KeptResults(full, fresh=full.room_shapes),
        "compute_only": KeptResults(split_layer(rank_layer(whole, mute), routing, quiet, backward), is_fresh=False),
        COMMUNICATION: KeptResults(full.messages, fresh=full.room_shapes),
    }
    others = [kept for name, kept in variants.items() if name != "full"]
    need, have = _bytes_needed(params, rank.world_size, one_device=True), rank.machine.memory_bytes
    if need <= have:
        one_device = variants["one_device"] = KeptResults(one_device_call(whole, backward))
        learns = variants["full"].learn, one_device.learn
        return variants, checked_with(others, lambda: check_call(full, whole, talking, learns)), NOTES
    small_whole, small_full = pair(replace(routing, num_tokens=min(routing.num_tokens, 64)), 32, 32)
    note = f"no one_device variant: it needs {need} bytes, and a rank has {have}"
    return (
        variants,
        checked_with(variants.values(), lambda: check_call(small_full, small_whole, talking)._replace(scope="reduced")),
        (*NOTES[1:], note),
    )
