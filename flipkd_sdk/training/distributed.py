"""Training by several processes, as ``accelerate launch`` or ``torchrun`` starts them.

Each process holds the whole model and all data and iterates over the same batches. It encodes its share of a batch's
texts. The vectors are gathered with their gradient, so that every process computes the objective over the whole batch,
as a single process would. Everything but the training steps is the main process's work: it alone writes, and the others
wait for it.

A launcher that notices a failed process ends the others, so none of them waits forever.
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

# The main process may encode texts with the teacher for hours.
_TIMEOUT = timedelta(days=7)


def start() -> None:
    """Join the process group if a launcher started several processes; do nothing in a single process."""
    if not dist.is_initialized():
        PartialState(cpu=device().type == "cpu", timeout=_TIMEOUT)
    if process_count() == 1 and parse_flag_from_env("ACCELERATE_USE_CPU") and "MASTER_PORT" in os.environ:
        logger.warning(
            "accelerate launch --cpu has started a single process; leave --cpu out and pass --multi_gpu to start "
            "several, also on a machine without a GPU"
        )


def device() -> torch.device:
    """Return this process's accelerator, or the CPU without one or under ``accelerate launch --cpu``."""
    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        return torch.device("cpu")
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def has_bf16() -> bool:
    """Return True if the device has instructions for bfloat16; without them float32 is faster."""
    kind = device().type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return kind == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def process_count() -> int:
    """Return the number of training processes; 1 without a launcher."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return True in the one process that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def broadcast_from_main(compute: Callable[[], Value]) -> Value:
    """Run a function on the main process and broadcast its result; the others wait and do not run it."""
    if process_count() == 1:
        return compute()
    values = [compute() if is_main() else None]
    dist.broadcast_object_list(values, src=0)
    return values[0]  # type: ignore[return-value]


def barrier() -> None:
    """Wait until all processes have reached this call."""
    if process_count() > 1:
        dist.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block on the main process before the others run it, so that they find its files."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def any_process(flag: bool) -> bool:
    """Return True if the flag is set in any process."""
    if process_count() == 1:
        return flag
    flags = torch.tensor(int(flag), device=device())
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def local_rows(rows: Sequence[int]) -> list[int]:
    """Return this process's share of a batch: every N-th row, with N processes.

    All shares have the same length. A share that would be shorter is filled with the batch's first row, which `gather`
    drops again.
    """
    if process_count() == 1:
        return list(rows)
    local = list(rows[dist.get_rank() :: process_count()])
    return local if len(local) * process_count() >= len(rows) else [*local, rows[0]]


def gather(part: Tensor, rows: int) -> Tensor:
    """Gather the batch from the shares of all processes, in the order of its rows and with their gradients.

    Each of N processes then computes the same loss and the gradient of its own share. ``DistributedDataParallel``
    averages the weights' gradients over the processes, but the sum is needed, so each share's gradient is multiplied
    by N.

    Args:
        part: values of this process's `local_rows`, shape (⌈rows/N⌉, …).
        rows: number of rows of the batch.

    Returns:
        Shape (rows, …).
    """
    if process_count() == 1:
        return part
    batch: Tensor = _Gather.apply(part)  # type: ignore[no-untyped-call]
    return batch[:rows]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, part: Tensor) -> Tensor:  # noqa: ANN401 - as torch declares it
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(process_count())]
        dist.all_gather(parts, part.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return gradient[dist.get_rank() :: process_count()] * process_count()


def refuse_indivisible(batch_sizes: Mapping[str, int]) -> None:
    """Raise if a batch cannot be split evenly over the processes.

    Args:
        batch_sizes: batch sizes by the name of their option.

    Raises:
        ConfigError: one of them is no multiple of the number of processes.
    """
    for option, size in batch_sizes.items():
        if size % process_count():
            raise ConfigError(
                f"option {option} = {size} cannot be split over {process_count()} processes; choose a multiple of "
                f"{process_count()}"
            )
