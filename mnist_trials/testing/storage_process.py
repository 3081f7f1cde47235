"""The processes that `CheckpointStorageSuite` kills: `python -m mnist_trials.testing.storage_process JOB`.

JOB is a `Job` as JSON. For N = 1, 2, ... a process of its own does the job and is killed (or fails) at the N-th time
that the storage is about to touch a file, a folder or a socket, until one gets to the end untouched. So every state in
which a kill can leave the storage is visited, and the storage needs no marks for it in its code: Python tells of each
such operation by an audit event.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import MANIFEST, CheckpointStorage, get_plugins

FILES: Final[Mapping[str, bytes]] = {
    "model.safetensors": bytes(range(256)) * 300,
    "empty": b"",
    "state.json": b'{"a": 1}',
    MANIFEST: b"{}",
}
"""The checkpoint that is written, in this order; a storage looks at nothing but the name of the manifest."""

# How a process ended that was neither killed nor reached the end untouched.
FAULT_SURVIVED: Final = 10
FAULT_REFUSED: Final = 11  # with a CheckpointError, as it should
FAULT_ESCAPED: Final = 12  # with anything else

_OPERATIONS = ("open", "os.", "shutil.", "socket.")
_MOST = 500


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to do. Checkpoint ids are `<prefix>-<n>`."""

    plugin: str
    options: Mapping[str, Any]
    default_root: str
    prefix: str
    work: Literal["write", "delete", "write many"]
    fault: Literal["kill", "enospc"] = "kill"


def open_storage(plugin: str, options: Mapping[str, Any], default_root: Path) -> CheckpointStorage:
    """The installed storage plugin of that name."""
    storage: CheckpointStorage = get_plugins().find("checkpoint_storage", plugin).factory(options, default_root)
    return storage


def write_files(folder: Path) -> None:
    """Write the suite's checkpoint into `folder`."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def write(storage: CheckpointStorage, checkpoint_id: str) -> None:
    """Store the suite's checkpoint."""
    write_files(storage.begin(checkpoint_id))
    storage.commit(checkpoint_id)


def main(argv: list[str]) -> int:
    """Do the job; for one with a fault, print the exit codes of the processes as a JSON list."""
    job = Job(**json.loads(argv[1]))
    storage = open_storage(job.plugin, job.options, Path(job.default_root))
    if job.work == "write many":
        for number in range(20):
            write(storage, f"{job.prefix}-{number}")
        return 0
    # Once undisturbed: what is imported or made on the first use is no part of the job.
    write(storage, f"{job.prefix}-warm-up")
    storage.delete(f"{job.prefix}-warm-up")
    codes: list[int] = []
    while 0 not in codes:
        if len(codes) == _MOST:
            raise RuntimeError(f"more than {_MOST} operations for one checkpoint")
        codes.append(_in_a_process(lambda: _work(job, len(codes) + 1)))
    print(json.dumps(codes))
    return 0


def _in_a_process(work: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        code = FAULT_ESCAPED
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _work(job: Job, number: int) -> int:
    checkpoint_id = f"{job.prefix}-{number}"
    storage = open_storage(job.plugin, job.options, Path(job.default_root))
    storage.ids()  # what it makes on its first use, such as a connection, is no part of the job either
    fault = _Fault(job.fault, number)
    sys.addaudithook(fault.observe)
    try:
        if job.work == "delete":
            write(storage, checkpoint_id)
            with fault.armed():
                storage.delete(checkpoint_id)
        else:
            with fault.armed():
                folder = storage.begin(checkpoint_id)
            write_files(folder)
            with fault.armed():
                storage.commit(checkpoint_id)
    except CheckpointError:
        return FAULT_REFUSED
    return FAULT_SURVIVED if fault.reached else 0


@final
class _Fault:
    def __init__(self, action: str, number: int) -> None:
        self._action = action
        self._left = number
        self._armed = False

    @property
    def reached(self) -> bool:
        return self._left <= 0

    def observe(self, event: str, _args: tuple[Any, ...]) -> None:
        if not self._armed or not event.startswith(_OPERATIONS):
            return
        self._left -= 1
        if self._left != 0:
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), event)

    @contextmanager
    def armed(self) -> Iterator[None]:
        self._armed = True
        try:
            yield
        finally:
            self._armed = False


if __name__ == "__main__":
    sys.exit(main(sys.argv))
