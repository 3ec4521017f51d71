"""One rank of a world of GPUs, without any: fake tensors on `cuda`, and a process group that sends nothing."""

from __future__ import annotations

import ctypes
import gc
import math
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage
from torch.distributed.tensor import DTensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import _disable_current_modes

from bench.measure.engine import control
from bench.measure.engine.rank import Place, RankContext
from bench.suite import Machine
from tests.support.fake_tensors import FakeGenerator, Tensors, attention

DEVICE = torch.device("cuda", 0)
RANKS_PER_HOST = 8


class FakeCuda:
    """A context in which suites prepare and call their work as a rank on a GPU would; it gives the RankContext.

    Tensors have shapes, types and devices but no values, so that any size is free. An operation on tensors of two
    devices, a shape that does not fit and a generator of another device than its tensor's raise, as on a GPU. `peak`
    counts the bytes of the tensors on the device that are alive, as torch's allocator gives them out.

    Attention takes the kernel that torch's CUDA build takes (`tests.support.fake_tensors.attention`). What it leaves
    behind does not get along with another such world: each takes a process of its own
    (`tests.support.fake_cases.in_child`).

    It does not cover
    - values: what is read from a tensor is 1, unless it is a whole number that was made of whole numbers (with
      `keeps_integers`); so no check is judged, only run;
    - kernels: their speed, their own workspace (cuBLAS, NCCL, the float32 sums of flash attention's backward), and
      if a kernel takes these sizes on a certain card;
    - streams, events and graphs: all is done at once, in the order of the calls; a graph's replay does nothing;
    - communication: every collective leaves its output as it is; no peer, no deadlock, no time-out;
    - what other ranks say: in votes and gathers of Python values all say the same as this rank, unless `others` knows;
    - the allocator: fragments, blocks that it keeps, memory that NCCL registers and symmetric memory;
    - properties of a card: it is an H100 with `memory_bytes` free, capability 9.0;
    - DDP's reducer, in C++: a stand-in takes its buckets and calls the all-reduces after the backward;
    - saving and loading of checkpoints, pinned memory and workers of a DataLoader.
    """

    def __init__(
        self,
        index: int,
        world_size: int,
        preset: str = "full",
        memory_bytes: int = 78 << 30,
        others: Callable[[Any, int], list[Any]] | None = None,
        hidden_states: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (),
        keeps_integers: bool = False,
    ) -> None:
        """`others`: (a value that this rank tells, number of ranks) -> what all ranks tell. `hidden_states`:
        shapes and types of a microbatch between two stages of a pipeline."""
        local = min(world_size, RANKS_PER_HOST)
        self.place = Place(
            index, world_size, index % local, local, host_index=index // local, num_hosts=-(-world_size // local)
        )
        self.machine = Machine(world_size, "cuda", preset, memory_bytes, num_cores=64, ranks_per_host=local)
        self.others = others or (lambda value, size: [value] * size)
        self.hidden_states = hidden_states
        self.tensors = Tensors(keeps_integers)

    def __enter__(self) -> RankContext:
        install()
        self._stack = ExitStack()
        place = self.place
        dist.init_process_group("fake", store=FakeStore(), rank=place.index, world_size=place.world_size)
        self._stack.callback(dist.destroy_process_group)
        for target, replacements in self._replacements():
            for name, value in replacements.items():
                self._stack.enter_context(patch.object(target, name, value, create=not hasattr(target, name)))
        self._stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        self._stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        self._stack.enter_context(self.tensors)
        world: Any = dist.group.WORLD
        control, calibration = (dist.new_group(backend="fake") for _ in range(2))
        return RankContext(place, self.machine, "nccl", DEVICE, group=world, control=control, calibration=calibration)

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        gc.collect()

    def _replacements(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        yield torch.cuda, self._cuda()
        yield FakeTensorMode, {"avoid_device_init": True}  # it would be False if there are GPUs
        yield torch, {"Generator": FakeGenerator}
        yield functional, {"scaled_dot_product_attention": attention}
        yield torch.UntypedStorage, {"resize_": self.tensors.resized(torch.UntypedStorage.resize_)}
        yield torch.nn.Module, {"_apply": _with_new_parameters(torch.nn.Module._apply)}
        new_group = dist.new_group
        yield dist, {"new_group": lambda ranks=None, backend=None, **rest: new_group(ranks, backend="fake", **rest)}
        yield control, self._control()
        # Meshes are made of tensors of ranks, whose values count.
        yield DeviceMesh, {name: _with_values(vars(DeviceMesh)[name]) for name in ("__init__", "__getitem__", "mesh")}
        yield RankContext, {"mesh": _with_values(RankContext.mesh)}
        yield DeviceMesh, {"from_group": staticmethod(_with_values(DeviceMesh.from_group))}
        yield DistributedDataParallel, {"__init__": _make_replica, "forward": lambda self, *args: self.module(*args)}
        yield PipelineStage, self._stages()

    def _cuda(self) -> dict[str, Any]:
        memory = self.machine.memory_bytes
        properties = SimpleNamespace(
            name="NVIDIA H100 80GB HBM3", total_memory=memory, major=9, minor=0, L2_cache_size=50 << 20
        )
        answers: dict[str, Any] = {
            "is_available": True,
            "device_count": self.machine.ranks_per_host,
            "current_device": 0,
            "is_initialized": False,
            "is_current_stream_capturing": False,
            "is_bf16_supported": True,
            "get_device_capability": (9, 0),
            "get_device_name": properties.name,
            "get_device_properties": properties,
            "mem_get_info": (memory, memory),
            "memory_allocated": 0,
            "max_memory_allocated": 0,
            "cudart": SimpleNamespace(cudaHostRegister=_always(0), cudaHostUnregister=_always(0)),
            "current_stream": FakeStream(),
            "default_stream": FakeStream(),
        }
        actions = ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "_sleep", "_lazy_init",
                   "get_rng_state", "set_rng_state")  # fmt: skip
        return {
            **{name: _always(value) for name, value in answers.items()},
            **{name: _always(None) for name in actions},
            "stream": lambda _stream: nullcontext(),
            "device": lambda _device: nullcontext(),
            "graph": lambda _graph: nullcontext(),
            "Stream": FakeStream,
            "Event": FakeEvent,
            "CUDAGraph": FakeGraph,
        }

    def _control(self) -> dict[str, Any]:
        def gathered(rank: RankContext, value: Any) -> list[Any] | None:
            return self.others(value, rank.world_size) if rank.index == 0 else None

        return {
            "broadcast_numbers": lambda rank, numbers: list(numbers),
            "maxima": lambda rank, numbers: list(numbers),
            "gather_numbers": gathered,
            "gather_json": gathered,
            "all_gather_json": lambda rank, value: self.others(value, rank.world_size),
        }

    def _stages(self) -> dict[str, Any]:
        return {
            "_warmup_backward_result": _nothing_is_known,  # so that stages ask each other what they send
            "_recv_meta": lambda stage, source: self._received(stage, source),
            "_send_meta": lambda stage, meta, target: self._sent(stage, meta, target),
        }

    def _received(self, stage: Any, source: int) -> Any:
        """What the neighbour would tell of its tensors: those that this stage takes or gives."""
        from torch.distributed.pipelining import _utils as utils

        shape, dtype = self._between(stage)
        stride = tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))
        is_forward = source < stage.stage_index
        meta = utils._TensorMeta(shape=torch.Size(shape), stride=stride, dtype=dtype, requires_grad=is_forward)
        return (utils._StageForwardMeta if is_forward else utils._StageBackwardMeta)((meta,))

    def _sent(self, stage: Any, meta: Any, target: int) -> None:
        """Raises AssertionError if a stage gives other tensors than the next one takes."""
        (sent,) = meta.forward_metas if target > stage.stage_index else meta.backward_metas
        assert (tuple(sent.shape), sent.dtype) == self._between(stage), f"stage {stage.stage_index} sends {sent}"

    def _between(self, stage: Any) -> tuple[tuple[int, ...], torch.dtype]:
        """Of the hidden states those as wide as the stage's norms: a check runs a small model beside the large one."""
        width = next(parameter.shape[0] for parameter in stage.submod.parameters() if parameter.dim() == 1)
        return next(states for states in self.hidden_states if states[0][-1] == width)


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_rest: value


def _with_new_parameters(apply: Any) -> Any:
    """Module._apply that makes new parameters: torch would swap the tensors, which those of a FakeTensorMode forbid."""

    def call(self: Any, change: Callable[[Any], Any], recurse: bool = True) -> Any:
        parameters = [(module, *named) for module in self.modules() for named in module._parameters.items()]
        if any(isinstance(parameter, DTensor) for _, _, parameter in parameters):
            return apply(self, change, recurse)
        for module, name, parameter in parameters:
            if parameter is not None:
                with torch.no_grad():
                    changed = change(parameter)
                module._parameters[name] = torch.nn.Parameter(changed, parameter.requires_grad)
        return self

    return call


def _nothing_is_known(_stage: Any, received_result: Any = None) -> Any:
    return SimpleNamespace(item=lambda: 0)


def _make_replica(
    self: Any, module: Any, process_group: Any = None, gradient_as_bucket_view: bool = False, **_rest: Any
) -> None:
    """DistributedDataParallel with one bucket, summed when the last gradient is there."""
    torch.nn.Module.__init__(self)
    self.module, self.process_group, self.require_backward_grad_sync = module, process_group, True
    parameters = list(module.parameters())
    bucket = torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=parameters[0].device)
    parts = dict(zip(parameters, bucket.split([p.numel() for p in parameters]), strict=True))
    ready: list[Any] = []

    def is_ready(parameter: Any) -> None:
        if not self.require_backward_grad_sync:
            return
        ready.append(parameter)
        part = parts[parameter].view_as(parameter)
        part.copy_(parameter.grad)
        if gradient_as_bucket_view:
            parameter.grad = part
        if len(ready) == len(parameters):
            dist.all_reduce(bucket, group=process_group)
            for each in ready:
                each.grad.copy_(parts[each].view_as(each))
            ready.clear()

    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(is_ready)


def _with_values(call: Any) -> Any:
    """A function, or a property, that computes with real tensors."""
    if isinstance(call, property):
        return property(_with_values(call.fget))

    @wraps(call)
    def real(*args: Any, **rest: Any) -> Any:
        with _disable_current_modes():
            return call(*args, **rest)

    return real


class FakeStream:
    """A stream on which all is done already."""

    def __init__(self, *_args: Any, **_rest: Any) -> None:
        self.device, self.cuda_stream = DEVICE, 0

    def wait_stream(self, _other: Any) -> None: ...
    def wait_event(self, _event: Any) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        return event or FakeEvent()

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_error: object) -> None: ...


class FakeEvent:
    """An event that has come to pass; 1 ms lies between any two."""

    def __init__(self, *_args: Any, **_rest: Any) -> None: ...
    def record(self, _stream: Any = None) -> None: ...
    def wait(self, _stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, _end: Any) -> float:
        return 1.0


class FakeGraph:
    """A graph whose replay does nothing."""

    def replay(self) -> None: ...
    def reset(self) -> None: ...


_library: list[Any] = []


def missing() -> str | None:
    """Why it cannot be had here; None if it can."""
    return None if shutil.which("g++") else "no g++, which the fake CUDA device needs"


def install() -> None:
    """Compile tests/fake_cuda.cpp and load it, once a process."""
    if _library:
        return
    torch_folder = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "fake_cuda.so"
        command = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}"]
        command += [str(Path(__file__).with_suffix(".cpp")), "-o", str(built)]
        command += [f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        library = ctypes.CDLL(str(built))
    library.install()
    _library.append(library)
