"""Context parallelism: attention over a long sequence that is split over the ranks, forward and backward.

What is measured: the time of one attention (queries, keys and values given; no projections) whose sequence is split
over all ranks. Why: a sequence of 32k tokens and more does not fit one device, and every rank needs the keys and values
of the others: gathered at once (`all_gather`), or passed on from rank to rank while it computes (`ring`). With a causal
mask the `contiguous` order leaves the last rank nearly twice the mean's work, and `balanced` shares it out evenly:
`work_imbalance` is the busiest rank's work / mean, from the mask. Variants, timed in turn with the case (`full`):

    compute_only   the same code over a group whose collectives return at once
    communication  the same messages with no attention between them
    one_device     the whole sequence, which every rank runs by itself at the same time

The timed work is checked: output and the gradients of queries, keys and values against one device.
`implementation=torch` is torch's own context_parallel (a prototype). Machinery: bench/workloads/parallel/context.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from bench.core import torch_versions
from bench.parallelism import flops, overlap
from bench.parallelism.sequence_chunks import ORDERS, num_pieces, work_imbalance
from bench.suite import ITEM_BYTES, Check, Machine, Observed, Params, Presets, SuiteMetric, Work, skip_if, too_small

if TYPE_CHECKING:
    import torch.distributed as dist

    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.timed_results import KeptResults
    from bench.workloads.parallel.context_check import AttentionProblem
    from bench.workloads.parallel.tensor import Ranks

PRODUCTS_IN = "dtype"
DEFAULTS: Params = {
    "dtype": "float32",
    "direction": "forward_backward",
    "implementation": "own",
    "causal": True,
    "order": "balanced",
    "batch": 1,
    "timing": "aligned",
}
CHOICES = {
    "op": ("ring", "all_gather"),
    "dtype": ("float32", "bfloat16", "float16"),
    "direction": ("forward", "forward_backward"),
    "implementation": ("own", "torch"),
    "causal": (True, False),
    "order": tuple(ORDERS),
    "timing": ("aligned", "streamed"),
}
METRICS = {
    "work_imbalance": SuiteMetric(
        "x", "lower", "Query-key pairs of the busiest rank over the mean of the ranks, from the mask and the order."
    ),
    **overlap.METRICS,
}

BASE: dict[str, Params] = {
    "cpu": {"sequence": 1024, "num_heads": 8, "num_kv_heads": 2, "head_dim": 64},
    # Heads of Llama-3 8B (Grattafiori et al. 2024, table 3), and the length at which its long-context training began.
    "cuda": {"sequence": 32768, "num_heads": 32, "num_kv_heads": 8, "head_dim": 128, "dtype": "bfloat16"},
}
Change = tuple[str, Params]
STANDARD: tuple[Change, ...] = (
    ("all_gather", {}),
    ("ring", {"order": "contiguous"}),
    ("all_gather", {"order": "contiguous"}),
    ("ring", {"causal": False, "order": "contiguous"}),
    ("ring", {"direction": "forward"}),
    ("all_gather", {"direction": "forward"}),
)
CHANGES: Presets[tuple[Change, ...]] = Presets(
    cpu={
        "smoke": (("ring", {}),),
        "standard": STANDARD,
        "full": (
            ("ring", {"sequence": 4096}),
            ("all_gather", {"sequence": 4096}),
            ("ring", {"num_kv_heads": 8}),
            ("all_gather", {"num_kv_heads": 8}),
            ("ring", {"dtype": "bfloat16"}),
            ("all_gather", {"causal": False, "order": "contiguous"}),
        ),
    },
    cuda={
        "smoke": (("ring", {}),),
        "standard": STANDARD,
        "full": (
            ("ring", {"sequence": 65536}),
            ("all_gather", {"sequence": 65536}),
            ("ring", {"sequence": 131072}),
            ("all_gather", {"sequence": 131072}),
            ("ring", {"num_kv_heads": 32}),
            ("all_gather", {"num_kv_heads": 32}),
            ("ring", {"num_kv_heads": 32, "implementation": "torch"}),
            ("all_gather", {"num_kv_heads": 32, "implementation": "torch"}),
            ("all_gather", {"causal": False, "order": "contiguous"}),
        ),
    },
)

CUDA_DTYPES = ("bfloat16", "float16")
NOTES = (
    "one_device: every rank runs the whole sequence by itself, all at the same time",
    "compute_only: the same code over a group whose collectives send nothing",
    f"FLOPs: attention counted in the convention `{flops.DEFAULT_CONVENTION}` (PaLM, appendix B), also with a mask",
    "gradients of keys and values are summed, and sent, in float32",
)
TORCH_NOTE = "implementation=torch enters context_parallel in every call, which costs the host a little"


def cases(machine: Machine) -> Iterator[Params]:
    """The base point varied one factor at a time; the presets nest."""
    for op, change in CHANGES.through(machine):
        yield {"op": op, **BASE[machine.device_type], **change}


def _attention(params: Params) -> AttentionProblem:
    from bench.workloads.parallel.context_check import AttentionProblem

    return AttentionProblem(
        op=str(params["op"]),
        batch=int(params["batch"]),
        sequence=int(params["sequence"]),
        num_heads=int(params["num_heads"]),
        num_kv_heads=int(params["num_kv_heads"]),
        head_dim=int(params["head_dim"]),
        causal=bool(params["causal"]),
        order=str(params["order"]),
        direction=str(params["direction"]),
    )


def _skip_reason(params: Params, num_ranks: int, device_type: str) -> str | None:
    """Reason why this cannot run on this many ranks, with the numbers; None if it can."""
    if num_ranks == 1:
        return "one rank: there is nothing to split"
    small = too_small(params, "sequence", "num_heads", "num_kv_heads", "head_dim", "batch")
    if small:
        return small
    order, sequence = str(params["order"]), int(params["sequence"])
    if sequence % num_pieces(order, num_ranks):
        pieces = num_pieces(order, num_ranks)
        return (
            f"sequence={sequence} cannot be cut evenly into the {pieces} pieces of order={order} on {num_ranks} ranks"
        )
    heads, kv_heads = params["num_heads"], params["num_kv_heads"]
    if int(heads) % int(kv_heads):
        return f"num_kv_heads={kv_heads} does not divide num_heads={heads}"
    if order == "balanced" and not params["causal"]:
        return "causal=false: without a mask all orders have equal work; take order=contiguous"
    if device_type == "cuda" and params["dtype"] not in CUDA_DTYPES:
        return f"dtype={params['dtype']}: flash attention on cuda takes {' and '.join(CUDA_DTYPES)}"
    if params["implementation"] == "torch":
        return _torch_skip_reason(params, device_type)
    is_grouped, goes_back = heads != kv_heads, params["direction"] == "forward_backward"
    needed = is_grouped and goes_back and device_type == "cpu"
    return torch_versions.skip_reason("grouped_heads_backward", "gloo") if needed else None


def _torch_skip_reason(params: Params, device_type: str) -> str | None:
    if device_type == "cpu":
        return (
            "torch's context_parallel has no rule for the CPU's attention kernel "
            "(NotImplementedError in torch 2.13: _scaled_dot_product_flash_attention_for_cpu)"
        )
    if not params["causal"] or params["order"] != "balanced":
        return "torch's context_parallel is causal and balanced unless private settings are changed"
    if params["num_kv_heads"] != params["num_heads"]:
        return f"torch's context_parallel is measured without grouped heads: num_kv_heads={params['num_heads']}"
    return None


def _bytes_needed(params: Params, num_ranks: int, one_device: bool) -> int:
    """Bytes that a rank holds at the worst moment; `one_device`: also the whole sequence's call and its check.

    Counted from the shapes. Of a rank's share: query, output gradient, output and its float32 sum, the query's gradient
    in float32 and its type. Keys and values with two receive buffers, and four of gradients in float32. all_gather: the
    whole keys and values twice (as gathered, and in order), and their gradients twice in float32.
    """
    item = ITEM_BYTES[str(params["dtype"])]
    tokens = int(params["batch"]) * int(params["sequence"]) * int(params["head_dim"])
    query, key_value = tokens * int(params["num_heads"]), 2 * tokens * int(params["num_kv_heads"])
    share = (query * (4 * item + 8) + key_value * (4 * item + 16)) // num_ranks
    if params["op"] == "all_gather":
        share += key_value * (2 * item + (8 if params["direction"] == "forward_backward" else 0))
    whole = (2 * query + key_value) * item  # the inputs, which every rank draws
    if one_device:
        whole += (2 * query + key_value) * item * 2
        whole += (4 * query + 2 * key_value) * 4 if item < 4 else 0  # the float32 reference
    return share + whole


def memory(params: Params, machine: Machine) -> int:
    """Without the variant on one device, which is left out if there is no room for it."""
    return _bytes_needed(params, machine.world_size, one_device=False)


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip with one rank, for numbers that cannot be split, and if torch's own or its kernel does not run."""
    skip_if(_skip_reason(params, rank.world_size, rank.device.type))
    import torch.distributed as dist

    from bench.workloads.parallel.tensor import silent_group

    attention = _attention(params)
    silent = silent_group()
    variants, check, notes = _variants(params, attention, rank, silent)
    forward = flops.attention_products_forward(
        attention.batch, attention.sequence, attention.num_heads * attention.head_dim
    )
    imbalance = work_imbalance(attention.order, rank.world_size, attention.sequence, attention.causal)

    def derive(observed: Observed) -> Mapping[str, float | None]:
        return {"work_imbalance": imbalance, **overlap.exposure(observed)}

    return Work(
        variants=dict(variants),
        check=check,
        timed_checks={name: kept.timed_check for name, kept in variants.items()},
        close=lambda: dist.destroy_process_group(silent),
        flops=forward * flops.PER_FORWARD[attention.direction],
        flops_dtype=str(params["dtype"]),
        tokens=attention.batch * attention.sequence,
        derive=derive,
        notes=(*notes, *([TORCH_NOTE] if params["implementation"] == "torch" else [])),
    )


def _variants(
    params: Params, attention: AttentionProblem, rank: RankContext, silent: dist.ProcessGroup
) -> tuple[dict[str, KeptResults], Callable[[], Check], tuple[str, ...]]:
    """The variants, check and notes; without `one_device` if memory has no room for it."""
    import torch

    from bench.workloads.model.timed_results import KeptResults, checked_with
    from bench.workloads.parallel.context import STRATEGIES
    from bench.workloads.parallel.context_check import (
        IMPLEMENTATIONS,
        check_call,
        inputs,
        one_device_call,
        split_attention,
    )
    from bench.workloads.parallel.tensor import Ranks, is_filled_by

    dtype: torch.dtype = getattr(torch, str(params["dtype"]))
    talking, mute = (
        Ranks(group, rank.index, rank.world_size, axis=f"context_{group.group_name}") for group in (rank.group, silent)
    )
    make = IMPLEMENTATIONS[str(params["implementation"])]
    whole = inputs(attention, rank.generator(), rank.device, dtype)
    split, messages = split_attention(whole, attention, talking), STRATEGIES[attention.op].messages
    full, alone = make(split, attention), make(split_attention(whole, attention, mute), attention)
    gathered = [((rank.world_size, *split.key_value.shape), dtype, rank.device)]
    variants = {
        "full": KeptResults(full, before=split.spoil_messages, fresh=gathered),
        # Over a silent group its buffers keep what they have.
        "compute_only": KeptResults(alone, compares=is_filled_by(silent, rank.world_size), is_fresh=False),
    }
    if params["implementation"] == "own":
        variants["communication"] = KeptResults(
            lambda: messages(split, attention.backward), before=split.spoil_messages, fresh=gathered
        )
    need, have = _bytes_needed(params, rank.world_size, one_device=True), rank.machine.memory_bytes
    if need <= have:
        one_device = KeptResults(one_device_call(whole, attention))
        others = [kept for name, kept in variants.items() if name != "full"]
        learns = variants["full"].learn, one_device.learn
        variants["one_device"] = one_device
        return variants, checked_with(others, lambda: check_call(full, whole, attention, talking, learns)), NOTES
    note = f"no one_device variant: it needs {need} bytes, and a rank has {have}"
    reduced_check = _reduced_check(params, attention, rank, talking)
    return variants, checked_with(list(variants.values()), reduced_check), (*NOTES[1:], note)


def _reduced_check(params: Params, attention: AttentionProblem, rank: RankContext, ranks: Ranks) -> Callable[[], Check]:
    """Check of the same code on a sequence that one device can hold."""
    from dataclasses import replace

    import torch

    from bench.workloads.parallel.context_check import IMPLEMENTATIONS, check_call, inputs, split_attention

    small = replace(attention, batch=1, sequence=8 * num_pieces(attention.order, rank.world_size))
    whole = inputs(small, rank.generator(), rank.device, getattr(torch, str(params["dtype"])))
    full = IMPLEMENTATIONS[str(params["implementation"])](split_attention(whole, small, ranks), small)
    return lambda: check_call(full, whole, small, ranks)._replace(scope="reduced")
