"""Tells an error of this rank from one that only says that another rank is gone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Final

from mnist_trials.errors import MnistTrialsError

# As gloo, NCCL and torch's stores say it; they have no error classes of their own for it.
_LOST: Final = re.compile(
    r"connection (was )?(closed|reset|refused|aborted)|broken pipe|failed to recv|timed? ?out|timeout"
    r"|communicator (was|is) aborted|remote process (has )?(exited|terminated)|ncclRemoteError|socket closed",
    re.IGNORECASE,
)
_SPEAKERS: Final = re.compile(r"gloo|nccl|c10d|TCPStore|FileStore|process ?group", re.IGNORECASE)


def is_consequence(error: BaseException) -> bool:
    """Whether `error`, or one that it was raised from, is that of a rank which has lost the others."""
    if isinstance(error, MnistTrialsError):  # raised on purpose: it says why
        return False
    return any(_lost_the_others(each) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _lost_the_others(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and isinstance(error, distributed.DistError):
        return True
    text = str(error)
    return _SPEAKERS.search(text) is not None and _LOST.search(text) is not None
