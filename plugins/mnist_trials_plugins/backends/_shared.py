"""What the backends of torch devices have in common, on the side that must not import torch."""

from __future__ import annotations

import os
from typing import Final

PRECISIONS: Final = ("fp32", "bf16-mixed", "fp16-mixed", "bf16-true")


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def thread_variables(threads: int) -> dict[str, str]:
    """Variables that keep the numeric libraries of a process to `threads` threads."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
