"""The checkpoint storage `directory`: a folder of this machine.

    checkpoint_storage:
      type: directory
      container_path: /data/checkpoints

Without `container_path` checkpoints lie in the experiment's own folder under the home.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mnist_trials.plugin import CheckpointStorage, Options, PluginRecord, hookimpl, refuse_unknown, text_option
from mnist_trials_plugins.checkpoint_storage._folder import FolderStorage, absolute

_SELF = "the checkpoint storage 'directory'"


def create(options: Options, default_root: Path) -> CheckpointStorage:
    """The storage at `container_path`, or at `default_root`.

    Raises:
        PluginError: an option is unknown or not an absolute path.
    """
    refuse_unknown(_SELF, options, ("container_path",))
    path = text_option(_SELF, options, "container_path")
    root = default_root if path is None else absolute(_SELF, "container_path", path)
    return FolderStorage(root, local=True)


@hookimpl
def mnist_trials_checkpoint_storage() -> Iterable[PluginRecord[CheckpointStorage]]:
    """The plugin's record."""
    return [PluginRecord("directory", "A folder of this machine", create)]
