"""What the backends have in common, on the side that must not import torch."""

from __future__ import annotations

import os
from typing import Final

from mnist_trials.errors import PluginError

PRECISIONS: Final = ("fp32", "bf16-mixed", "fp16-mixed", "bf16-true")


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def core_shares(count: int | None) -> tuple[int, ...]:
    """The cores divided into `count` equal shares, one each for None; a core that is left over goes to a first one.

    Raises:
        PluginError: there are fewer cores than shares, or `count` is none.
    """
    there = cores()
    wanted = there if count is None else count
    if not 1 <= wanted <= there:
        raise PluginError(
            f"This machine offers {there} CPU core{'s' * (there != 1)}, and a slot takes at least one: there can be 1 "
            f"to {there} slots, not {wanted}."
        )
    share, rest = divmod(there, wanted)
    return tuple(share + (index < rest) for index in range(wanted))


def require_precision_name(precision: str) -> None:
    """See that `precision` is one that there is, whatever a device can do.

    Raises:
        PluginError: it is not; the text names those that are.
    """
    if precision not in PRECISIONS:
        raise PluginError(f"No precision is named '{precision}'. Known: {', '.join(PRECISIONS)}.")


def thread_variables(threads: int) -> dict[str, str]:
    """Variables that keep the numeric libraries of a process to `threads` threads."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
