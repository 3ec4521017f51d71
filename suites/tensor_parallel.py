"""Tensor parallelism: an MLP and an attention block split over the ranks, forward and backward.

What is measured: the time of one block of a transformer layer whose matrices are split over all ranks, so
that every call waits for its slowest rank and for the sums between them. Why: training of large models does
this in every layer, and communication that is not hidden is lost. Variants, timed in turn with the case
itself (`full`):

    compute_only  the same code on the same local shapes, over a group whose collectives return at once
    one_device    the whole block, which every rank runs by itself at the same time

The speed-up is one_device / full, the share of communication 1 - compute_only / full. The timed work
is checked: outputs, loss and all gradients against the whole block on one device. Machinery:
bench/workloads/parallel/tensor.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from bench.parallelism import flops
from bench.suite import COMPILE_SECONDS, ITEM_BYTES, Check, Machine, Params, Presets, Skip, Work, skip_if

if TYPE_CHECKING:
    from torch import Tensor

    from bench.measure.engine.rank import RankContext
    from bench.workloads.model.output_sketch import Shape
    from bench.workloads.model.timed_results import KeptResults
    from bench.workloads.parallel.tensor import BlockSizes, Call, Ranks

TRACED_CALLS = 5
PRODUCTS_IN = "dtype"
DEFAULTS: Params = {
    "dtype": "float32",
    "direction": "forward_backward",
    "implementation": "manual",
    "timing": "aligned",
}
CHOICES = {
    "op": ("mlp", "attention"),
    "dtype": ("float32", "bfloat16", "float16"),
    "direction": ("forward", "forward_backward"),
    "implementation": ("manual", "dtensor", "sequence", "async_tp"),
    "timing": ("aligned", "streamed"),
}

# Device type -> the base point of each operation. An MLP has no num_heads, attention no ffn_hidden.
BASE: dict[str, dict[str, Params]] = {
    "cpu": {
        "mlp": {"hidden": 256, "ffn_hidden": 1024, "batch": 1, "sequence": 256},
        "attention": {"hidden": 256, "num_heads": 16, "batch": 1, "sequence": 256},
    },
    # Sizes of Llama-3 8B (Grattafiori et al. 2024, table 3); two matrices in the MLP, no grouped heads.
    "cuda": {
        "mlp": {"hidden": 4096, "ffn_hidden": 14336, "batch": 1, "sequence": 4096, "dtype": "bfloat16"},
        "attention": {"hidden": 4096, "num_heads": 32, "batch": 1, "sequence": 4096, "dtype": "bfloat16"},
    },
}

# Operation and what differs from the base point, the most informative first; the presets nest.
Change = tuple[str, Params]
SMOKE: tuple[Change, ...] = (
    ("mlp", {}),
    ("attention", {}),
    ("mlp", {"implementation": "sequence"}),
    ("mlp", {"implementation": "dtensor"}),
    ("mlp", {"direction": "forward"}),
    ("attention", {"implementation": "sequence"}),
)
OTHER_ATTENTION: tuple[Change, ...] = (
    ("attention", {"implementation": "dtensor"}),
    ("attention", {"direction": "forward"}),
)
FULL_BOTH: tuple[Change, ...] = (
    ("mlp", {"batch": 4}),
    ("attention", {"batch": 4}),
    ("mlp", {"timing": "streamed"}),
    ("attention", {"timing": "streamed"}),
    ("mlp", {"direction": "forward", "implementation": "sequence"}),
    ("mlp", {"direction": "forward", "implementation": "dtensor"}),
    ("attention", {"direction": "forward", "implementation": "sequence"}),
    ("attention", {"direction": "forward", "implementation": "dtensor"}),
)
CHANGES: Presets[tuple[Change, ...]] = Presets(
    cpu={
        "smoke": SMOKE,
        "standard": (
            # Sizes of GPT-2 medium (Radford et al. 2019, table 2: 1024 wide).
            ("mlp", {"hidden": 1024, "ffn_hidden": 4096}),
            ("attention", {"hidden": 1024}),
            ("mlp", {"dtype": "bfloat16"}),
            *OTHER_ATTENTION,
            ("mlp", {"hidden": 512, "ffn_hidden": 2048}),
            ("attention", {"sequence": 1024}),
            ("attention", {"dtype": "bfloat16"}),
        ),
        "full": (
            # Widths of GPT-3 XL (Brown et al. 2020, table 2.1).
            ("mlp", {"hidden": 2048, "ffn_hidden": 8192}),
            ("attention", {"hidden": 2048}),
            ("mlp", {"hidden": 1024, "ffn_hidden": 4096, "implementation": "sequence"}),
            ("mlp", {"hidden": 1024, "ffn_hidden": 4096, "implementation": "dtensor"}),
            ("attention", {"hidden": 1024, "implementation": "sequence"}),
            ("attention", {"hidden": 1024, "implementation": "dtensor"}),
            *FULL_BOTH,
        ),
    },
    cuda={
        "smoke": SMOKE,
        "standard": (
            ("mlp", {"implementation": "async_tp"}),
            # Sizes of Llama-3 70B.
            ("mlp", {"hidden": 8192, "ffn_hidden": 28672}),
            ("attention", {"hidden": 8192, "num_heads": 64}),
            *OTHER_ATTENTION,
            ("mlp", {"hidden": 1024, "ffn_hidden": 4096}),
            ("attention", {"sequence": 16384}),
            ("mlp", {"dtype": "float16"}),
            ("mlp", {"dtype": "float32"}),
        ),
        "full": (
            # Sizes of GPT-3 175B.
            ("mlp", {"hidden": 12288, "ffn_hidden": 49152}),
            ("attention", {"hidden": 12288, "num_heads": 96}),
            ("mlp", {"hidden": 8192, "ffn_hidden": 28672, "implementation": "sequence"}),
            ("mlp", {"hidden": 8192, "ffn_hidden": 28672, "implementation": "async_tp"}),
            ("mlp", {"hidden": 8192, "ffn_hidden": 28672, "implementation": "dtensor"}),
            ("attention", {"hidden": 8192, "num_heads": 64, "implementation": "sequence"}),
            ("attention", {"hidden": 8192, "num_heads": 64, "implementation": "dtensor"}),
            *FULL_BOTH,
        ),
    },
)

WORKSPACE_BYTES = 32 << 20
"""Memory that the matrix library keeps for itself: cuBLAS on Hopper 32 MiB (its documentation), oneDNN less."""
UNSPLIT_PER_TOKEN = {"manual": 4, "sequence": 4, "async_tp": 4, "dtensor": 9}
"""Numbers of `hidden` that a call holds per token of what is not split: inputs of the norm and of the first matrix, the
output, gradients; DTensor keeps copies of its own."""
NOTES = (
    "one_device: every rank runs the whole block by itself, all at the same time",
    "compute_only: the same code over a group whose collectives send nothing",
)
ATTENTION_NOTE = f"FLOPs: attention counted in the convention `{flops.DEFAULT_CONVENTION}` (PaLM, appendix B)"


def cases(machine: Machine) -> Iterator[Params]:
    """A base point varied one factor at a time; the presets nest."""
    for op, change in CHANGES.through(machine):
        yield {"op": op, **BASE[machine.device_type][op], **change}


def _sizes(params: Params) -> BlockSizes:
    from bench.workloads.parallel.tensor import BlockSizes

    op, hidden = str(params["op"]), int(params["hidden"])
    return BlockSizes(
        op=op,
        hidden=hidden,
        width=3 * hidden if op == "attention" else int(params["ffn_hidden"]),
        num_heads=int(params.get("num_heads", 1)),
        batch=int(params["batch"]),
        sequence=int(params["sequence"]),
    )


def _skip_reason(sizes: BlockSizes, implementation: str, num_ranks: int) -> str | None:
    """Reason why these sizes cannot be split over the ranks, with the numbers; None if they can."""
    if num_ranks == 1:
        return "one rank: there is nothing to split, and the block on one device is the compute suite's"
    if sizes.hidden % sizes.num_heads:
        return f"num_heads={sizes.num_heads} does not divide hidden={sizes.hidden}"
    must_divide = {"ffn_hidden": sizes.width} if sizes.op == "mlp" else {"num_heads": sizes.num_heads}
    if implementation in ("sequence", "async_tp"):
        must_divide["sequence"] = sizes.sequence
    for name, value in must_divide.items():
        if value % num_ranks:
            return f"{name}={value} cannot be split evenly over {num_ranks} ranks"
    return None


def _bytes_needed(sizes: BlockSizes, params: Params, num_ranks: int, one_device: bool) -> int:
    """Bytes that a rank holds at the worst moment; `one_device`: also the whole block's call and its check.

    Counted from the shapes: weights and their gradients, activations kept for the backward and the
    temporary ones of the widest moment. Attention's scores are not kept (the fused kernels of
    scaled_dot_product_attention).
    """
    item = ITEM_BYTES[str(params["dtype"])]
    tokens = sizes.batch * sizes.sequence
    weights = sizes.hidden * (2 * sizes.width if sizes.op == "mlp" else 4 * sizes.hidden)
    inputs = 2 * tokens * sizes.hidden
    activations = tokens * (8 * sizes.hidden + 4 * sizes.width)
    shares = 2 * (weights // num_ranks + inputs)
    if not one_device:  # the whole block is drawn, and gone when its shares are made
        unsplit = UNSPLIT_PER_TOKEN[str(params["implementation"])] * tokens * sizes.hidden
        split = tokens * (4 * sizes.hidden + 2 * sizes.width) // num_ranks
        call = weights // num_ranks + split + unsplit
        return WORKSPACE_BYTES + item * (shares + max(weights + inputs, call))
    resident = weights + inputs + shares
    share = activations // num_ranks + 8 * tokens * sizes.hidden
    # The check holds three calls' results; for a short type its reference is twice as long.
    reference = (2 * weights + activations) * (4 if item == 2 else 0)
    return WORKSPACE_BYTES + item * (resident + 2 * weights + activations + share) + reference


def prepare_seconds(params: Params) -> float:
    """Seconds for the compilation of `async_tp`."""
    return COMPILE_SECONDS if params["implementation"] == "async_tp" else 0.0


def memory(params: Params, machine: Machine) -> int:
    """Without the variant on one device, which is left out if there is no room for it."""
    return _bytes_needed(_sizes(params), params, machine.world_size, one_device=False)


def _reduced(sizes: BlockSizes, num_ranks: int) -> BlockSizes:
    """Sizes that any device can hold, for the check of a block that is too large for one."""
    from dataclasses import replace

    head_dim = min(sizes.hidden // sizes.num_heads, 16)
    hidden = sizes.num_heads * head_dim if sizes.op == "attention" else 64
    width = 3 * hidden if sizes.op == "attention" else 16 * num_ranks
    return replace(sizes, hidden=hidden, width=width, batch=1, sequence=8 * num_ranks)


def _model_flops(sizes: BlockSizes, direction: str) -> float:
    tokens = sizes.batch * sizes.sequence
    forward: dict[str, float] = {
        "mlp": flops.mlp_forward(tokens, sizes.hidden, sizes.width),
        "attention": flops.attention_forward(sizes.batch, sizes.sequence, sizes.hidden),
    }
    return forward[sizes.op] * flops.PER_FORWARD[direction]


def prepare(params: Params, rank: RankContext) -> Work:
    """Raises Skip with one rank, and if the ranks do not divide what is split."""
    sizes = _sizes(params)
    implementation = str(params["implementation"])
    skip_if(_skip_reason(sizes, implementation, rank.world_size))
    if implementation == "async_tp":
        from bench.workloads.parallel.tensor_async import skip_reason

        skip_if(skip_reason(rank.device.type, rank.backend, rank.place.num_hosts))
    import torch.distributed as dist

    from bench.workloads.parallel.tensor import Ranks, no_mark, silent_group

    silent = silent_group()
    talking, mute = (
        Ranks(group, rank.index, rank.world_size, axis=f"tensor_{group.group_name}", mark=mark)
        for group, mark in ((rank.group, rank.span), (silent, no_mark))
    )
    variants, check, notes = _variants(sizes, params, rank, talking, mute)
    return Work(
        variants=dict(variants),
        check=check,
        timed_checks={name: kept.timed_check for name, kept in variants.items()},
        close=lambda: dist.destroy_process_group(silent),
        flops=_model_flops(sizes, str(params["direction"])),
        flops_dtype=str(params["dtype"]),
        tokens=sizes.batch * sizes.sequence,
        traced_calls=TRACED_CALLS,
        notes=(*notes, *([ATTENTION_NOTE] if sizes.op == "attention" else [])),
    )


def _variants(
    sizes: BlockSizes, params: Params, rank: RankContext, talking: Ranks, mute: Ranks
) -> tuple[dict[str, KeptResults], Callable[[], Check], tuple[str, ...]]:
    """The variants, check and notes of a case; without `one_device` if memory has no room for it."""
    import torch

    from bench.workloads.model.timed_results import KeptResults, checked_with
    from bench.workloads.parallel.tensor import check_call, is_filled_by, shared_call, whole_call

    implementation = str(params["implementation"])
    if implementation == "async_tp":
        return _async_variants(sizes, params, rank, talking)
    dtype: torch.dtype = getattr(torch, str(params["dtype"]))

    def pair(of: BlockSizes) -> tuple[Call, Call]:
        whole = whole_call(of, str(params["direction"]), rank.generator(), rank.device, dtype)
        return whole, shared_call(whole, of, implementation, talking)

    whole, full = pair(sizes)
    compute_only = shared_call(whole, sizes, implementation, mute)
    variants = {
        "full": KeptResults(_traced(full, implementation, rank), fresh=_fresh(sizes, whole)),
        "compute_only": KeptResults(compute_only, compares=is_filled_by(mute.group, mute.size)),
    }
    need, have = _bytes_needed(sizes, params, talking.size, one_device=True), rank.machine.memory_bytes
    if need <= have:
        one_device = variants["one_device"] = KeptResults(whole)
        seen = variants["full"].learn, one_device.learn
        check = partial(check_call, full, whole, sizes, implementation, talking, seen)
        return variants, checked_with([variants["compute_only"]], check), NOTES
    small = _reduced(sizes, talking.size)
    small_whole, small_full = pair(small)

    def reduced_check() -> Check:
        return check_call(small_full, small_whole, small, implementation, talking)._replace(scope="reduced")

    return (
        variants,
        checked_with(variants.values(), reduced_check),
        (NOTES[1], f"no one_device variant: it needs {need} bytes, and a rank has {have}"),
    )


def _fresh(sizes: BlockSizes, whole: Call) -> list[Shape]:
    """Shapes of what collectives write: the whole activations."""
    return [((sizes.batch, sizes.sequence, sizes.hidden), whole.x.dtype, whole.x.device)]


def _traced(call: Call, implementation: str, rank: RankContext) -> Callable[[], list[Tensor]]:
    """The call; in the traced pass, if torch sends by itself, with what it sends marked."""
    from bench.workloads.trace.communication import record_in_traced_pass

    if implementation == "manual":
        return call

    def run() -> list[Tensor]:
        with record_in_traced_pass(rank, {rank.group.group_name: "tensor"}):
            return call()

    return run


def _async_variants(
    sizes: BlockSizes, params: Params, rank: RankContext, talking: Ranks
) -> tuple[dict[str, KeptResults], Callable[[], Check], tuple[str, ...]]:
    """The compiled block compared with the same one as it is. Raises Skip if nothing was fused.

    `eager` is the implementation `sequence`; the silent group has no symmetric memory, so there is no `compute_only`.
    """
    import torch

    from bench.workloads.model.timed_results import KeptResults, checked_with
    from bench.workloads.parallel.tensor import check_call, shared_call, whole_call
    from bench.workloads.parallel.tensor_async import Graphs, compile_block

    dtype, graphs = getattr(torch, str(params["dtype"])), Graphs()
    whole = whole_call(sizes, str(params["direction"]), rank.generator(), rank.device, dtype)
    eager = shared_call(whole, sizes, "sequence", talking)
    full = shared_call(whole, sizes, "sequence", talking)
    full.block = compile_block(full.block, talking.group, graphs)
    full()
    if not graphs.num_fused:
        raise Skip(f"async_tp: nothing was fused: {graphs.said()}")
    calls: dict[str, Call] = {"full": full, "eager": eager, "one_device": whole}
    variants = {name: KeptResults(call, fresh=_fresh(sizes, whole)) for name, call in calls.items()}

    seen = variants["full"].learn, variants["one_device"].learn
    return (
        variants,
        checked_with([variants["eager"]], partial(check_call, full, whole, sizes, "sequence", talking, seen)),
        (NOTES[0], f"async_tp: the compiled graphs have {graphs.said()}"),
    )
