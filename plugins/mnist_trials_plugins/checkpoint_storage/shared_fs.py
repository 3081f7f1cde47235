"""The checkpoint storage `shared_fs`: a file system that every machine of the experiment sees at the same path.

    checkpoint_storage:
      type: shared_fs
      host_path: /mnt/shared
      storage_path: mnist/checkpoints

Without `storage_path` checkpoints lie in `host_path` itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mnist_trials.errors import PluginError
from mnist_trials.plugin import CheckpointStorage, Options, PluginRecord, hookimpl, refuse_unknown, text_option
from mnist_trials_plugins.checkpoint_storage._folder import FolderStorage, absolute

_SELF = "the checkpoint storage 'shared_fs'"


def create(options: Options, default_root: Path) -> CheckpointStorage:
    """The storage at `storage_path` within `host_path`; at `host_path` itself without one. `default_root` is not used.

    Raises:
        PluginError: an option is unknown, `host_path` is absent or relative, or `storage_path` leads out of it.
    """
    refuse_unknown(_SELF, options, ("host_path", "storage_path"))
    host = text_option(_SELF, options, "host_path")
    if host is None:
        raise PluginError(f"{_SELF.capitalize()} needs 'host_path', the absolute path of the shared folder.")
    host_path = absolute(_SELF, "host_path", host)
    storage = text_option(_SELF, options, "storage_path")
    root = host_path if storage is None else _inside(host_path, storage)
    return FolderStorage(root, within=host_path, local=False)


def _inside(host_path: Path, storage: str) -> Path:
    """`storage` within `host_path`; an absolute path is taken where it lies there."""
    root = Path(os.path.normpath(host_path / storage))
    if ".." in Path(storage).parts or not root.is_relative_to(host_path):
        raise PluginError(
            f"'storage_path' of {_SELF} must lie within host_path ({host_path}), which {storage!r} does not. "
            "Give a path relative to host_path, without '..'."
        )
    return root


@hookimpl
def mnist_trials_checkpoint_storage() -> Iterable[PluginRecord[CheckpointStorage]]:
    """The plugin's record."""
    return [PluginRecord("shared_fs", "A file system mounted at the same path on every machine", create)]
