"""What a controller says of itself: why it ends, and what it leaves to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mnist_trials.errors import StoreError

_NEXT: Final = "the next controller of an experiment in this home goes on with it"


def at_a_loss(searcher: str, resting: Sequence[int]) -> str:
    """The searcher has paused the trials `resting`, and waits for nothing else."""
    shown = ", ".join(map(str, resting[:10])) + (f" and {len(resting) - 10} more" if len(resting) > 10 else "")
    return (
        f"The searcher '{searcher}' is at a loss: it has paused every trial that is left ({shown}), and it has neither "
        "resumed one, nor created one, nor shut down."
    )


def not_verified(left: int, cause: str) -> str:
    """So many checkpoints could not be looked at, because of `cause`; empty for none."""
    what = "1 checkpoint is" if left == 1 else f"{left} checkpoints are"
    return f"{what} not verified yet{_why(cause)}; those before stay, and {_NEXT}" if left else ""


def not_removed(experiment_id: int, left: int, cause: str) -> str:
    """So many checkpoints could not be deleted, because of `cause`; empty for none."""
    what = "1 checkpoint that was given up is" if left == 1 else f"{left} checkpoints that were given up are"
    return f"{what} not deleted yet{_why(cause)}; {_NEXT}, or `mnist-trials delete {experiment_id}`" if left else ""


def _why(cause: str) -> str:
    return f" ({cause.rstrip('.')})" if cause else ""


def out_of_order(experiment_id: int, error: OSError | StoreError) -> str:
    """The store became unusable."""
    what = str(error).rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        what = error.strerror + (f" ({error.filename})" if error.filename else "")
    return (
        f"The controller cannot go on: {what}. Its workers were ended; when this is put right, "
        f"`mnist-trials activate {experiment_id}` goes on from the latest checkpoints."
    )
