"""Whether the ranks of a trial hold what rank 0 needs of them for a checkpoint."""

from __future__ import annotations

from itertools import zip_longest

from mnist_trials.checkpoint import CheckpointContent, Parts, Snapshot
from mnist_trials.checkpoint.parts import digest_of, expected
from mnist_trials.errors import TrialError
from mnist_trials.plugin import Ranks


def lists_of(content: CheckpointContent, held: Snapshot | Parts | None, ranks: Ranks) -> list[list[str]]:
    """What this rank has to say of parts: rank 0 what it needs of each rank, any other what it holds."""
    return [held.list] if isinstance(held, Parts) else expected(content, ranks.layout.size)


def digests_of(lists: list[list[str]]) -> list[str]:
    """Short words for `lists`, equal for equal ones."""
    return [digest_of(listed) for listed in lists]


def require_fitting(digests: list[list[str]], lists: list[list[str]], ranks: Ranks) -> None:
    """See that what each rank holds is what rank 0 needs of it, by all ranks' `digests`.

    `lists` are this rank's own. They are gathered, from all ranks, only where something does not fit.

    Raises:
        TrialError: it is not; raised on every rank.
    """
    first, *others = digests
    if all(held == [needed] for held, needed in zip(others, first[1:], strict=True)):
        return
    (needs, *having) = ranks.gather(lists)
    for rank, ([held], needed) in enumerate(zip(having, needs[1:], strict=True), 1):
        if held != needed:
            other, own = next(pair for pair in zip_longest(held, needed, fillvalue="nothing") if pair[0] != pair[1])
            raise TrialError(
                f"The processes of this trial do not hold parts of the same tensors, so these cannot be saved: rank "
                f"{rank} has {other} where rank 0 needs {own}. build_model() and build_optimizer() must return the "
                "same on every rank, and what the trial does with them be the same."
            )
