"""The checkpoint storage `fsspec`: whatever a URL of fsspec leads to.

    checkpoint_storage:
      type: fsspec
      url: sftp://host/mnt/checkpoints
      options: {username: me}

`options` is what the file system is made with; see fsspec's pages for each. For S3, Google and Azure the storages of
their own (`s3`, `gcs`, `azure`) check more and clean up after killed writers.

A URL of this machine (`file:///data/checkpoints`) is kept as the storage `directory` keeps one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from mnist_trials.errors import PluginError
from mnist_trials.plugin import CheckpointStorage, Options, PluginRecord, hookimpl, refuse_unknown
from mnist_trials_plugins.checkpoint_storage._folder import FolderStorage, absolute
from mnist_trials_plugins.checkpoint_storage._places import folder_within, secret_text, secrets_in
from mnist_trials_plugins.checkpoint_storage._remote import Remote, RemoteStorage
from mnist_trials_plugins.checkpoint_storage._retry import ONE_MINUTE, Retry

_SELF: Final = "the checkpoint storage 'fsspec'"
_THIS_MACHINE: Final = ("file", "local")
_OBJECT_STORES: Final = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "obs", "r2")
_EXTRAS: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "azure"),
}
"""Protocols whose library an extra of this package installs."""
_EXAMPLE: Final = "sftp://host/mnt/checkpoints"


def create(options: Options, default_root: Path, retry: Retry = ONE_MINUTE) -> CheckpointStorage:
    """The storage at `url`. Files pass through `default_root` on their way there.

    Raises:
        PluginError: an option is unknown or wrong, or no file system of fsspec is of that URL or can be used here.
    """
    refuse_unknown(_SELF, options, ("url", "options"))
    url = secret_text(_SELF, options, "url")  # may have a password in it
    settings = options.get("options") or {}
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise PluginError(f"'options' of {_SELF} must be a map with names as keys.")
    protocol, place = _parts(url)
    if protocol in _THIS_MACHINE:
        if settings:
            raise PluginError(f"'options' of {_SELF} must be left out for a URL of this machine ({protocol}://).")
        return FolderStorage(absolute(_SELF, "url", place), local=True)
    _require_installed(protocol)
    account, _, host = place.rpartition("@")
    folder_within(_SELF, "url", host.strip("/"))
    user, _, password = account.partition(":")
    shown = f"{protocol}://{user}@{host}" if user else f"{protocol}://{host}"
    remote = Remote(
        connect=lambda: _connect(f"{protocol}://{place}", settings),
        url=shown.rstrip("/"),
        access="Check the 'url' and 'options' of the checkpoint storage, and that they give the right to write there.",
        secrets=tuple(filter(None, (*secrets_in(settings), password, unquote(password)))),
        local=protocol == "memory",
        whole_puts=protocol in _OBJECT_STORES,
    )
    return RemoteStorage(remote, default_root, retry)


@hookimpl
def mnist_trials_checkpoint_storage() -> Iterable[PluginRecord[CheckpointStorage]]:
    """The plugin's record."""
    return [PluginRecord("fsspec", "Whatever a URL of fsspec leads to", create)]


def _parts(url: str | None) -> tuple[str, str]:
    """The protocol of `url`, and what stands after '://'."""
    if url is None:
        raise PluginError(f"{_SELF.capitalize()} needs 'url', such as {_EXAMPLE}.")
    protocol, separator, place = url.partition("://")
    if "::" in url:
        raise PluginError(f"'url' of {_SELF} must name one file system, not a chain of them with '::'.")
    if not separator or not protocol or not place.strip("/"):
        raise PluginError(f"'url' of {_SELF} must be a URL that leads to a folder, such as {_EXAMPLE}.")
    if "?" in place or "#" in place:
        raise PluginError(f"'url' of {_SELF} must be without '?' and '#'; settings go into 'options'.")
    return protocol, place


def _require_installed(protocol: str) -> None:
    from fsspec.registry import known_implementations, registry

    if protocol in registry:
        return
    if protocol not in known_implementations:
        raise PluginError(
            f"'url' of {_SELF}: fsspec knows no protocol '{protocol}'. "
            f"Known: {', '.join(sorted(known_implementations))}."
        )
    known = known_implementations[protocol]
    module = known["class"].rpartition(".")[0]
    try:
        if not module.startswith("fsspec."):  # a library of its own, which may take a second to import
            if importlib.util.find_spec(module.partition(".")[0]) is None:
                raise ImportError(f"the package {module.partition('.')[0]} is not installed")
        else:
            importlib.import_module(module)
    except ImportError as error:
        how = known.get("err") or error
        if protocol in _EXTRAS:
            how = f"{error}; install it with: pip install 'mnist-trials[{_EXTRAS[protocol]}]'"
        raise PluginError(f"'url' of {_SELF}: {protocol}:// cannot be used here: {how}.") from error


def _connect(url: str, settings: Mapping[str, Any]) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    files, root = url_to_fs(url, skip_instance_cache=True, **settings)
    return files, root
