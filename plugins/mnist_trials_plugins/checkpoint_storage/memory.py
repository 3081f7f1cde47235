"""The checkpoint storage `memory`: the memory of this process, for tests.

    checkpoint_storage:
      type: memory

No other process sees it and it ends with this one, so it goes with the launcher `inline` only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mnist_trials.plugin import CheckpointStorage, Options, PluginRecord, hookimpl, refuse_unknown
from mnist_trials_plugins.checkpoint_storage._remote import Remote, RemoteStorage
from mnist_trials_plugins.checkpoint_storage._retry import ONE_MINUTE

_SELF: Final = "the checkpoint storage 'memory'"


def create(options: Options, default_root: Path) -> CheckpointStorage:
    """The storage of that `default_root` in this process: all storages of one root hold the same checkpoints.

    Raises:
        PluginError: it has an option; it takes none.
    """
    refuse_unknown(_SELF, options, ())
    root = f"/checkpoints{default_root.absolute()}"
    remote = Remote(connect=lambda: (_connect(), root), url=f"memory:/{root}", access="", local=True)
    return RemoteStorage(remote, default_root, ONE_MINUTE)


@hookimpl
def mnist_trials_checkpoint_storage() -> Iterable[PluginRecord[CheckpointStorage]]:
    """The plugin's record."""
    return [PluginRecord("memory", "The memory of this process; for tests", create)]


def _connect() -> Any:
    import fsspec

    return fsspec.filesystem("memory")
