"""Faults of torch's own parallel libraries: DTensor, DDP, FSDP2 and pipelines."""

from __future__ import annotations

from typing import Any

from tests.seeded.injection import Injection


def dtensor_without_all_reduce(injection: Injection) -> None:
    import torch.distributed._functional_collectives as functional

    injection.instead(functional, "all_reduce", lambda _original, tensor, *_args, **_named: tensor)


def ddp_sums(injection: Injection) -> None:
    """DDP adds gradients up in place of their mean."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    def hook(_state: Any, bucket: Any) -> Any:
        buffer = bucket.buffer() if injection.strikes() else bucket.buffer().div_(dist.get_world_size())
        return dist.all_reduce(buffer, async_op=True).get_future().then(lambda done: done.value()[0])

    hook.__annotations__.clear()  # DDP asks that they be its own
    original = DistributedDataParallel.__init__

    def init(model: Any, *args: Any, **named: Any) -> None:
        original(model, *args, **named)
        model.register_comm_hook(None, hook)

    DistributedDataParallel.__init__ = init  # type: ignore[method-assign]


def stale_all_gather(injection: Injection) -> None:
    """After the first calls, all-gathers leave what the first one of their size left."""
    import torch.distributed as dist

    from tests.seeded.communication_faults import is_payload, names_of

    first: dict[int, Any] = {}

    def patched(name: str) -> None:
        original = getattr(dist, name)

        def gather(output: Any, given: Any, *args: Any, **named: Any) -> Any:
            strikes = is_payload(output, given) and injection.strikes()
            work = original(output, given, *args, **named)
            if is_payload(output, given):
                if work is not None:
                    work.wait()
                kept = first.setdefault(output.numel(), output.clone())
                if strikes:
                    output.copy_(kept)
            return work

        setattr(dist, name, gather)

    for name in names_of("all_gather_into_tensor"):
        patched(name)


def microbatches_swapped(injection: Injection) -> None:
    """The first two microbatches of a pipeline's inputs change places."""
    from torch.distributed.pipelining import schedules

    def faulty(original: Any, *args: Any, **named: Any) -> Any:
        inputs, others = original(*args, **named)
        if len(inputs) > 1 and inputs[0]:
            inputs[0], inputs[1] = inputs[1], inputs[0]
        return inputs, others

    injection.instead(schedules._PipelineSchedule, "_split_inputs", faulty)


def stage_sends_the_last_output(injection: Injection) -> None:
    """A pipeline's stage that sends on what it sent the time before."""
    import torch.distributed as dist

    last: list[Any] = []

    def faulty(original: Any, operations: Any) -> Any:
        for operation in operations:
            if operation.op is dist.isend:
                own = operation.tensor.detach().clone()
                if last and last[0].shape == own.shape:
                    operation.tensor.detach().copy_(last[0])
                last[:] = [own]
        return original(operations)

    injection.instead(dist, "batch_isend_irecv", faulty)
