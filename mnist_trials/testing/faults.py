"""Named points where a test can have this process killed or an operation fail.

Production code marks the moments that matter with `fault_point("checkpoint.manifest_written")`. Nothing happens there
unless the environment variable MNIST_TRIALS_FAULT is `NAME:ACTION[:N]`: at the N-th time (default 1) that this
process comes to the point NAME, it

- `kill`: sends itself SIGKILL,
- `raise`: raises OSError(EIO),
- `enospc`: raises OSError(ENOSPC), as on a full disk.

`fault_points()` lists every point in the package, so that a test can go through them all.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections import Counter
from pathlib import Path

VARIABLE = "MNIST_TRIALS_FAULT"
ACTIONS = ("kill", "raise", "enospc")

_hits: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Do what MNIST_TRIALS_FAULT says of the point `name`; costs one look-up where it is not set.

    Raises:
        OSError: the action is `raise` or `enospc` and this is the n-th time.
        ValueError: MNIST_TRIALS_FAULT is not `NAME:ACTION[:N]`.
    """
    fault = os.environ.get(VARIABLE)
    if fault is not None:
        _hit(name, fault)


def fault_points() -> dict[str, Path]:
    """Every point in the source of the package, by name, and the file it stands in."""
    package = Path(__file__).parent.parent
    call = re.compile(r'\bfault_point\(\s*"([^"]+)"')
    return {
        name: path
        for path in sorted(package.rglob("*.py"))
        if path != Path(__file__)
        for name in call.findall(path.read_text(encoding="utf-8"))
    }


def _hit(name: str, fault: str) -> None:
    wanted, action, turn = _parse(fault)
    if name != wanted:
        return
    _hits[fault] += 1
    if _hits[fault] != turn:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    code = errno.ENOSPC if action == "enospc" else errno.EIO
    raise OSError(code, os.strerror(code), name)


def _parse(fault: str) -> tuple[str, str, int]:
    name, _, rest = fault.partition(":")
    action, _, turn = rest.partition(":")
    if not name or action not in ACTIONS or not re.fullmatch("[1-9][0-9]*", turn or "1"):
        raise ValueError(f"{VARIABLE} must be NAME:ACTION[:N] with an action of {', '.join(ACTIONS)}, not {fault!r}")
    return name, action, int(turn or "1")
