"""Standard output without what gloo says of itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_greetings() -> Iterator[None]:
    """Keep from standard output what gloo's C++ says when it connects ("[Gloo] Rank 0 is connected to ...").

    There is no switch for it. What anybody else writes meanwhile is written afterwards.
    """
    sys.stdout.flush()
    real = os.dup(1)
    kept = os.memfd_create("stdout")
    os.dup2(kept, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        _write_on(kept, real)
        os.close(kept)
        os.close(real)


def _write_on(kept: int, real: int) -> None:
    os.lseek(kept, 0, os.SEEK_SET)
    with os.fdopen(os.dup(kept), "rb") as lines:
        others = b"".join(line for line in lines if not line.startswith(b"[Gloo] Rank "))
    while others:
        others = others[os.write(real, others) :]
