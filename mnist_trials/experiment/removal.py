"""What is done with checkpoints beside the controller: they are verified where they lie, and deleted when given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, final

from mnist_trials.checkpoint.verification import verify_stored
from mnist_trials.errors import CheckpointDamaged, CheckpointError
from mnist_trials.experiment.errands import Errands
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.testing.faults import fault_point

PATIENCE_SECONDS: Final = 10.0
"""How long, in the end, a storage that does nothing is waited for."""


@final
class Upkeep:
    """Verifies and deletes, each in a thread of its own. `close` it; what is not done by then is left."""

    def __init__(self, storage: CheckpointStorage, is_read: Callable[[str], bool]) -> None:
        """`is_read`: whether somebody reads a checkpoint at this moment, which is not deleted before they are done."""
        self._storage = storage
        self._is_read = is_read
        self.verifier = Errands("checkpoint-verifier", self._verify)
        """Finds out what is wrong with checkpoints as they lie in their storage; "" for one with which nothing is."""
        self.remover = Errands("checkpoint-remover", self._remove)
        """Deletes checkpoints, and what cut-off saves left; one that is not there is no error."""

    def put(self, unverified: Iterable[str], given_up: Iterable[str]) -> None:
        """Have checkpoints verified, and others deleted, soon."""
        self.verifier.put(unverified)
        self.remover.put(given_up)

    def close(self) -> None:
        """Begin nothing more."""
        self.verifier.close()
        self.remover.close()

    def _verify(self, uuid: str) -> str:
        try:
            verify_stored(self._storage, uuid)
        except CheckpointDamaged as error:
            return str(error)
        return ""

    def _remove(self, uuid: str) -> None:
        if self._is_read(uuid):
            raise CheckpointError("somebody reads it at the moment")
        fault_point("retention.before_delete")
        self._storage.delete(uuid)
        fault_point("retention.after_delete")
