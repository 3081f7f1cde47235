"""What saves of an experiment that were cut off left in its storage, begun or whole, and no row of the store names.

A storage may be shared with other experiments, of other homes too. The ids of an experiment's checkpoints end with a
mark of its own (see `mnist_trials.checkpoint.ids`), by which its own are told from theirs.

An id that was made in a run and is not on record when that run has been closed never will be: it is of no use. Unless
the store is not the one it was: restored from a backup, or copied with its home. Then the storage lacks what the store
has on record, and nothing is removed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Final, final

from typing_extensions import override

from mnist_trials.checkpoint.ids import is_owned
from mnist_trials.errors import CheckpointError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.in_use import is_read
from mnist_trials.experiment.removal import PATIENCE_SECONDS, Upkeep
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.store import Reader
from mnist_trials.store.rows import CheckpointRow

OWNER: Final = "owner"
"""Where among an experiment's options the mark of its checkpoints is kept; those of an earlier version have none."""


@final
class Strays:
    """Looks for them, and removes them. No run of the experiment may be open.

    Attributes:
        found: their ids, sorted.
        unknown: why they could not be looked for, or told from others; empty if they could.
    """

    def __init__(self, reader: Reader, experiment_id: int, storage: CheckpointStorage) -> None:
        """Looks now; waits for the storage for as long as `PATIENCE_SECONDS`."""
        self._files = ExperimentFiles(reader.home, experiment_id)
        self._storage = storage
        self.found: list[str] = []
        self.unknown = ""
        owner = reader.experiment(experiment_id).options.get(OWNER, "")
        rows = reader.checkpoints(experiment_id)
        self.found, self.unknown = _within(PATIENCE_SECONDS, lambda: _of_no_use(storage, owner, rows))

    def remove(self) -> int:
        """Remove them, for as long as the storage does it; returns how many are left."""
        with closing(Upkeep(self._storage, lambda uuid: is_read(self._files, uuid))) as upkeep:
            upkeep.remover.put(self.found)
            upkeep.remover.drain(PATIENCE_SECONDS)
            return upkeep.remover.pending

    @override
    def __str__(self) -> str:
        """What to tell a person; empty if there is nothing to tell."""
        if self.unknown:
            return (
                f"what saves that were cut off may have left in the checkpoint storage is not removed: {self.unknown}"
            )
        if not self.found:
            return ""
        shown = ", ".join(self.found[:3]) + (f" and {len(self.found) - 3} more" if len(self.found) > 3 else "")
        return f"what saves that were cut off left in the checkpoint storage is removed: {shown}"


def find_strays(storage: CheckpointStorage, owner: str, known: set[str]) -> list[str]:
    """The ids of `owner` that something lies under in `storage` and that are not `known`, sorted.

    Raises:
        CheckpointError: the storage cannot be listed.
    """
    if not owner:
        return []
    there = {*storage.unfinished(), *storage.ids()}
    return sorted(uuid for uuid in there - known if is_owned(uuid, owner))


def _of_no_use(storage: CheckpointStorage, owner: str, rows: Iterable[CheckpointRow]) -> list[str]:
    """The strays of `owner`, by what `rows` has on record.

    Raises:
        CheckpointError: the storage cannot be listed, or `rows` are older than what lies in it.
    """
    states = {row.uuid: row.state for row in rows}
    found = find_strays(storage, owner, set(states))
    kept = {uuid for uuid, state in states.items() if state == "COMPLETED"}
    if found and (gone := sorted(kept.difference(storage.ids()))):
        raise CheckpointError(
            f"checkpoint {gone[0]}, which should be kept, is not there, and {found[0]}, which is not on record, is. So "
            "the store may be older than the storage: from a backup, or in a copy of a home."
        )
    return found


def _within(seconds: float, look: Callable[[], list[str]]) -> tuple[list[str], str]:
    """What `look` finds, and why it could not; it is left alone when it takes longer than `seconds`."""
    answer: list[tuple[list[str], str]] = []

    def work() -> None:
        try:
            answer.append((look(), ""))
        except Exception as error:  # whatever a storage raises, the experiment goes on
            answer.append(([], str(error) or type(error).__name__))

    thread = threading.Thread(target=work, name="stray-finder", daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else ([], f"the storage has not answered within {seconds:g} s")
