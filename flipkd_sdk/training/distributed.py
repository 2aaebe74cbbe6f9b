"""Several processes that train one model, as ``accelerate launch`` or ``torchrun`` starts them.

Each holds the whole model and all data, and goes through the same batches. Of a batch's texts it encodes its share; the
vectors are gathered with their gradient, so that every process computes the objective over the whole batch, as a single
one would. Everything but the training steps is the main process's work: it alone writes, and the others wait for it.

A process that fails is noticed by the launcher, which ends the others; none of them waits for ever.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from flipkd_sdk.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

logger = logging.getLogger("flipkd_sdk")

Value = TypeVar("Value")

# The main process may be busy with the teacher's vectors for hours.
_PATIENCE = timedelta(days=7)


def start() -> None:
    """Join the other processes, if the launcher says that there are any; alone, nothing happens."""
    if not dist.is_initialized():
        PartialState(cpu=device().type == "cpu", timeout=_PATIENCE)
    if count() == 1 and parse_flag_from_env("ACCELERATE_USE_CPU") and "MASTER_PORT" in os.environ:
        logger.warning(
            "accelerate launch --cpu has started a single process; leave --cpu out and pass --multi_gpu to have "
            "several, on the CPU too where there is no GPU"
        )


def device() -> torch.device:
    """Where this process computes: its accelerator, or the CPU where there is none or ``accelerate launch`` says so."""
    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        return torch.device("cpu")
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def has_bf16() -> bool:
    """Whether the device has instructions for bfloat16; without them it computes in it more slowly than in float32."""
    kind = device().type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return kind == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def count() -> int:
    """How many processes train; 1 without a launcher."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_main(compute: Callable[[], Value]) -> Value:
    """What the main process computes, in all of them; the others wait for it, and need not be able to."""
    if count() == 1:
        return compute()
    held = [compute() if is_main() else None]
    dist.broadcast_object_list(held, src=0)
    return held[0]  # type: ignore[return-value]


def wait() -> None:
    """Go on when all processes have come this far."""
    if count() > 1:
        dist.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process run the block before the others do, which then find its files."""
    if not is_main():
        from_main(lambda: None)
    yield
    if is_main():
        from_main(lambda: None)


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if count() == 1:
        return flag
    held = torch.tensor(int(flag), device=device())
    dist.all_reduce(held, dist.ReduceOp.MAX)
    return bool(held)


def share(rows: Sequence[int]) -> list[int]:
    """This process's share of a batch: every N-th row, of N processes.

    All shares have the same length; where the rows do not go round, the first one stands in, and `gather` drops it.
    """
    if count() == 1:
        return list(rows)
    mine = list(rows[dist.get_rank() :: count()])
    return mine if len(mine) * count() >= len(rows) else [*mine, rows[0]]


def gather(part: Tensor, rows: int) -> Tensor:
    """The whole batch out of the shares of all processes, in the order of its rows and with their gradients.

    Each of N processes has the same loss then, and knows the gradient of its own share. ``DistributedDataParallel``
    takes the mean of the weights' gradients over the processes where the sum is wanted, so a share's is taken N times.

    Args:
        part: what belongs to this process's `share`, shape (⌈rows/N⌉, …).
        rows: how many rows the batch has.

    Returns:
        Shape (rows, …).
    """
    if count() == 1:
        return part
    whole: Tensor = _Gather.apply(part)  # type: ignore[no-untyped-call]
    return whole[:rows]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, part: Tensor) -> Tensor:  # noqa: ANN401 - as torch declares it
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(count())]
        dist.all_gather(parts, part.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return gradient[dist.get_rank() :: count()] * count()


def refuse_indivisible(batch_sizes: Mapping[str, int]) -> None:
    """See whether batches can be shared out evenly.

    Args:
        batch_sizes: by the name of their option.

    Raises:
        ConfigError: one of them is no multiple of the number of processes.
    """
    for option, size in batch_sizes.items():
        if size % count():
            raise ConfigError(
                f"option {option} = {size} cannot be split over {count()} processes; choose a multiple of {count()}"
            )
