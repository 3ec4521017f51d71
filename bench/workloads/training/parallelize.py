"""The Llama model on a device mesh of pipeline x data x tensor, by torch's own parallel library.

    tensor     parallelize_module: matrices by columns, then by rows, norms and residuals along the sequence
               (sequence parallel, Korthikanti et al. 2022), the vocabulary split in embedding and head
    data       replicate: DistributedDataParallel if data is the only axis. With a tensor axis, which DDP does
               not know, or a pipeline, whose split backwards it does not support (torch 2.13 hangs with zero
               bubbles): fully_shard on a mesh of data x 1: replicas, by the same code as sharding.
               Shard: fully_shard, each layer a unit, embedding with head and last norm another
    pipeline   parts of the layers, run by a schedule of torch.distributed.pipelining

Layers are made, given their weights and split one at a time, so that no rank ever holds a whole model that it
has a share of. Importing this module imports torch.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from bench.parallelism.layout import Layout
from bench.parallelism.shapes import ModelShape
from bench.workloads.model.llama import Generators, Llama, init_layer

MESH_AXES = ("pipeline", "replicate", "shard", "tensor")
SEQUENCE_DIM = 1


@dataclass(frozen=True)
class Treatment:
    """Treatment of a model's parts in training, whatever the split."""

    dtype: str
    """`bfloat16`: matrix products in it, on float32 weights; by fully_shard's mixed precision if it is used
    for sharding, else by autocast."""
    data_mode: str
    """`replicate` or `shard`."""
    recompute: bool
    compile: bool


def mesh_shape(layout: Layout, data_mode: str) -> tuple[int, int, int, int]:
    """Sizes of MESH_AXES; data ranks are replicas or shares, so that one of the two is 1."""
    replicas, shares = (layout.dp, 1) if data_mode == "replicate" else (1, layout.dp)
    return layout.pp, replicas, shares, layout.tp


def layer_plan() -> dict[str, ParallelStyle]:
    """Return the plan of a LlamaLayer whose input and output are split along the sequence."""
    split = Shard(SEQUENCE_DIM)
    whole = PrepareModuleInput(input_layouts=(split,), desired_input_layouts=(Replicate(),))
    return {
        "attention_norm": SequenceParallel(),
        "attention": whole,
        "attention.query": ColwiseParallel(),
        "attention.key": ColwiseParallel(),
        "attention.value": ColwiseParallel(),
        "attention.out": RowwiseParallel(output_layouts=split),
        "mlp_norm": SequenceParallel(),
        "mlp": whole,
        "mlp.gate": ColwiseParallel(),
        "mlp.up": ColwiseParallel(),
        "mlp.down": RowwiseParallel(output_layouts=split),
    }


def ends_plan(model: Llama) -> dict[str, ParallelStyle]:
    """Return the plan of embedding, last norm and head, if a part has them; logits stay split by vocabulary."""
    split = Shard(SEQUENCE_DIM)
    plan: dict[str, ParallelStyle] = {}
    if model.embedding is not None:
        plan["embedding"] = RowwiseParallel(input_layouts=Replicate(), output_layouts=split)
    if model.head is not None:
        plan["norm"] = SequenceParallel()
        plan["head"] = ColwiseParallel(input_layouts=split, output_layouts=Shard(-1))
    return plan


def build_part(
    shape: ModelShape,
    layers: range,
    layout: Layout,
    mesh: DeviceMesh | None,
    treatment: Treatment,
    generators: Generators,
    device: torch.device,
) -> nn.Module:
    """A rank's share of some layers, with the embedding before the first and the head after the last.

    `mesh` has the axes MESH_AXES; None on one device. On the meta device the weights are not drawn.
    """
    model = Llama(shape, layers, has_embedding=0 in layers, has_head=shape.num_layers - 1 in layers)
    is_only_axis = layout.dp == layout.world_size
    is_sharded = mesh is not None and layout.dp > 1 and (treatment.data_mode == "shard" or not is_only_axis)
    arguments = _fully_shard_arguments(mesh, layout, treatment) if is_sharded and mesh is not None else None
    tensor_mesh = mesh["tensor"] if mesh is not None and layout.tp > 1 else None
    is_drawn = device.type != "meta"
    for name, layer in model.layers.items():
        layer.to_empty(device=device)
        if is_drawn:
            init_layer(layer, generators(1 + int(name)))
        layer.recompute = treatment.recompute  # type: ignore[assignment]
        if tensor_mesh is not None:
            parallelize_module(layer, tensor_mesh, layer_plan(), src_data_rank=None)
        if treatment.compile:
            layer.compile()
        if arguments is not None:
            fully_shard(layer, **arguments)
    for end in (model.embedding, model.norm, model.head):
        if end is not None:
            end.to_empty(device=device)
    if is_drawn:
        model.init_ends(generators)
    if tensor_mesh is not None:
        parallelize_module(model, tensor_mesh, ends_plan(model), src_data_rank=None)
    if treatment.dtype != "float32" and not (arguments and treatment.data_mode == "shard"):
        model.autocast_dtype = getattr(torch, treatment.dtype)
    if arguments is not None:
        # A tensor-parallel head gives a view of its DTensor; nothing here changes logits in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        fully_shard(model, **arguments)
        return model
    if mesh is not None and layout.dp > 1:
        return DistributedDataParallel(model, process_group=mesh["replicate"].get_group())
    return model


def _fully_shard_arguments(mesh: DeviceMesh, layout: Layout, treatment: Treatment) -> dict[str, Any]:
    """Choose FSDP's arguments. With a pipeline, weights stay gathered over all microbatches: one gather per
    step and not two per microbatch, as torchtitan does it."""
    is_short = treatment.dtype != "float32" and treatment.data_mode == "shard"
    dtype = getattr(torch, treatment.dtype)
    return {
        "mesh": mesh["shard"] if treatment.data_mode == "shard" else mesh["replicate", "shard"],
        "reshard_after_forward": layout.pp == 1 and treatment.data_mode == "shard",
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        if is_short
        else MixedPrecisionPolicy(),
    }


def local_part(tensor: Tensor) -> Tensor:
    """This rank's own part of a tensor."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
