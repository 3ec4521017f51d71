"""Faults of communication: collectives and messages of torch.distributed that leave something wrong, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.seeded.injection import Injection

NEW_NAMES = {"all_gather_into_tensor": "all_gather_single", "reduce_scatter_tensor": "reduce_scatter_single"}
"""Names that torch 2.13 added."""


def names_of(collective: str) -> list[str]:
    """Names under which this torch has a collective."""
    import torch.distributed as dist

    return [name for name in (collective, NEW_NAMES.get(collective, "")) if hasattr(dist, name)]


def is_payload(*args: Any, **named: Any) -> bool:
    """True for a call on measured data: not the engine's own counts and texts, and not its one-element alignment."""
    import torch

    tensors = [value for value in (*args, *named.values()) if isinstance(value, torch.Tensor)]
    return bool(tensors) and all(t.numel() > 1 and t.dtype not in (torch.int64, torch.uint8) for t in tensors)


def _is_bfloat16(tensor: Any, *args: Any, **named: Any) -> bool:
    return is_payload(tensor, *args, **named) and str(tensor.dtype) == "torch.bfloat16"


def _nothing(_original: Any, *_args: Any, **named: Any) -> Any:
    return _Waited(None) if named.get("async_op") else None


def does_nothing(name: str) -> Callable[[Injection], None]:
    """A collective that returns at once."""

    def install(injection: Injection) -> None:
        import torch.distributed as dist

        for each in names_of(name):
            injection.instead(dist, each, _nothing, is_payload if name != "barrier" else lambda **_named: True)

    return install


def changes(name: str, spoil: Callable[..., object], concerns: Callable[..., bool] = is_payload) -> Any:
    """A collective that does its work, and then something to the tensors."""

    def install(injection: Injection) -> None:
        import torch.distributed as dist

        for each in names_of(name):
            injection.after(dist, each, lambda _result, *args, **_named: spoil(*args), concerns)

    return install


def nan_in_one(output: Any, *_rest: Any) -> None:
    output.view(-1)[len(output.view(-1)) // 3] = float("nan")


def last_wrong(output: Any, *_rest: Any) -> None:
    output.view(-1)[-1] += 1


def last_row_zero(output: Any, *_rest: Any) -> None:
    if output.dim() == 2:
        output[-1] = 0


def parts_swapped(output: Any, *_rest: Any) -> None:
    first, second = output.chunk(2)
    first[:], second[:] = second.clone(), first.clone()


def second_half_spoilt(output: Any, *_rest: Any) -> None:
    output.chunk(2)[1].zero_()


def part_of_rank_1_lost(_input: Any, parts: Any, *_rest: Any) -> None:
    if parts:
        parts[1].zero_()


LAST_WRONG_IN_BFLOAT16 = changes("all_reduce", last_wrong, _is_bfloat16)


def output_not_written(name: str) -> Callable[[Injection], None]:
    """A collective whose data arrive, but not in the output: the ranks meet all the same."""

    def faulty(original: Any, output: Any, *args: Any, **named: Any) -> Any:
        return original(output.clone(), *args, **named)

    def install(injection: Injection) -> None:
        import torch.distributed as dist

        for each in names_of(name):
            injection.instead(dist, each, faulty, is_payload)

    return install


def maximum_instead_of_sum(injection: Injection) -> None:
    """A reduction with the wrong operation."""
    import torch.distributed as dist

    injection.instead(
        dist, "reduce", lambda original, *args, **named: original(*args, op=dist.ReduceOp.MAX, **named), is_payload
    )


class _Waited:
    """Work whose `wait` returns at once: of messages on gloo a second one would wait for ever."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def wait(self) -> bool:
        return True


def not_waited_for(injection: Injection) -> None:
    """Asynchronous all-reduces that are not done when `wait` returns."""
    import torch.distributed as dist

    injection.instead(
        dist,
        "all_reduce",
        lambda original, *args, **named: _Waited(original(*args, **named)),
        lambda *args, **named: is_payload(*args) and bool(named.get("async_op")),
    )


def wrong_only_beside_others(injection: Injection) -> None:
    """A reduce-scatter that is wrong only while something else is under way: if it is asynchronous."""
    import torch.distributed as dist

    def faulty(original: Any, output: Any, *args: Any, **named: Any) -> _Waited:
        work = original(output, *args, **named)
        work.wait()
        last_wrong(output)
        return _Waited(work)  # gloo's own would write the output once more

    for name in names_of("reduce_scatter_tensor"):
        injection.instead(dist, name, faulty, lambda *args, **named: is_payload(*args) and bool(named.get("async_op")))


def remembers_inputs(injection: Injection) -> None:
    """An all-to-all that does nothing while input and output are as it left them, by torch's own count of changes."""
    import torch.distributed as dist

    left: dict[tuple[int, int], tuple[int, int]] = {}

    def faulty(original: Any, output: Any, given: Any, *args: Any, **named: Any) -> Any:
        key = output.data_ptr(), given.data_ptr()
        if left.get(key) == (output._version, given._version):
            return None
        result = original(output, given, *args, **named)
        left[key] = output._version, given._version
        return result

    injection.instead(dist, "all_to_all_single", faulty, is_payload)


def messages_that(spoil: Callable[[Any], object]) -> Callable[[Injection], None]:
    """Messages between two ranks that arrive, and are changed then."""

    def faulty(original: Any, operations: Any) -> Any:
        import torch.distributed as dist

        works = original(operations)
        for work in works:
            work.wait()
        for operation in operations:
            if operation.op is dist.irecv:
                spoil(operation.tensor)
        return [_Waited(work) for work in works]

    def install(injection: Injection) -> None:
        import torch.distributed as dist

        injection.instead(dist, "batch_isend_irecv", faulty)

    return install


def messages_not_written(injection: Injection) -> None:
    """Messages that arrive, but not in the tensor that they are for."""
    import torch.distributed as dist

    def faulty(original: Any, operations: Any) -> Any:
        received = [operation for operation in operations if operation.op is dist.irecv]
        tensors = [operation.tensor for operation in received]
        for operation in received:
            operation.tensor = operation.tensor.clone()
        works = original(operations)
        for operation, tensor in zip(received, tensors, strict=True):
            operation.tensor = tensor
        return works

    injection.instead(dist, "batch_isend_irecv", faulty)


def rolled(tensor: Any) -> None:
    tensor.copy_(tensor.roll(1, -2))
