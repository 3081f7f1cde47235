"""Checkpoints as folders of a file system; shared by the plugins `directory` and `shared_fs`.

A checkpoint is written in `<root>/.tmp-<id>`, made durable there, and then renamed to `<root>/<id>`: a rename within
one file system is atomic, so a reader finds the whole checkpoint or nothing. Deleting goes the same way back.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import final

from typing_extensions import override

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import MANIFEST, CheckpointStorage, Stored, require_checkpoint_id
from mnist_trials.plugin.checkpoint_storage import examined

STAGING = ".tmp-"
"""How the name of a folder begins in which a checkpoint is written; its id follows. No id begins so."""


@final
class FolderStorage(CheckpointStorage):
    """Keeps each checkpoint as a folder of `root`.

    `within`, where given, is a folder that `root` may not leave. `local`: other machines do not see `root`.
    """

    def __init__(self, root: Path, within: Path | None = None, *, local: bool) -> None:
        self._root = root
        self._within = within
        self._local = local

    @property
    @override
    def local(self) -> bool:
        return self._local

    @override
    def begin(self, checkpoint_id: str) -> Path:
        final, staging = self._paths(checkpoint_id)
        with self._explained("begun", checkpoint_id):
            self._make_root()
            if os.path.lexists(final):
                raise CheckpointError(f"There is already a checkpoint '{checkpoint_id}' in {self._root}.")
            remove(staging)
            staging.mkdir()
        return staging

    @override
    def commit(self, checkpoint_id: str) -> None:
        final, staging = self._paths(checkpoint_id)
        if not _is_real_folder(staging):
            raise CheckpointError(f"The checkpoint '{checkpoint_id}' was not begun in {self._root}.")
        if not (staging / MANIFEST).is_file():
            raise CheckpointError(f"{staging} has no {MANIFEST}; without it it is no checkpoint and is not stored.")
        with self._explained("stored", checkpoint_id):
            if os.path.lexists(final):
                raise CheckpointError(f"There is already a checkpoint '{checkpoint_id}' in {self._root}.")
            _sync_content(staging)
            with _opened(self._root) as root:
                staging.rename(final)
                try:
                    os.fsync(root)
                except OSError:
                    final.rename(staging)
                    raise

    @override
    def fetch(self, checkpoint_id: str) -> AbstractContextManager[Path]:
        final, _ = self._paths(checkpoint_id)
        if not _is_checkpoint(final):
            raise CheckpointError(self._absent(checkpoint_id))
        return _borrowed(final)

    @override
    def delete(self, checkpoint_id: str) -> None:
        final, staging = self._paths(checkpoint_id)
        with self._explained("deleted", checkpoint_id):
            if os.path.lexists(final):
                remove(staging)
                final.rename(staging)
            remove(staging)

    @override
    def ids(self) -> list[str]:
        return sorted(name for name in self._names() if is_id(name) and _is_checkpoint(self._root / name))

    @override
    def unfinished(self) -> list[str]:
        return staged(self._names())

    @override
    def locate(self, checkpoint_id: str) -> str:
        return str(self._paths(checkpoint_id)[0])

    @override
    def examine(self, checkpoint_id: str) -> Stored | None:
        """As `CheckpointStorage.examine`. Nothing is listed: a listing may be old where other machines write too."""
        final, _ = self._paths(checkpoint_id)
        try:
            return examined(final) if _is_checkpoint(final) else None
        except OSError as error:
            raise CheckpointError(f"{final} cannot be read: {error.strerror or error}.") from error

    def _names(self) -> list[str]:
        try:
            self._stay_within()
            return os.listdir(self._root)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"The checkpoints in {self._root} cannot be listed: {error.strerror}.") from error

    def _paths(self, checkpoint_id: str) -> tuple[Path, Path]:
        require_checkpoint_id(checkpoint_id)
        self._stay_within()
        return self._root / checkpoint_id, self._root / f"{STAGING}{checkpoint_id}"

    def _stay_within(self) -> None:
        if self._within is not None and not self._root.resolve().is_relative_to(self._within.resolve()):
            raise CheckpointError(f"{self._root} leads out of {self._within} by a symbolic link.")

    def _make_root(self) -> None:
        missing = []
        folder = self._root
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            _sync(folder.parent)

    @contextmanager
    def _explained(self, done: str, checkpoint_id: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint '{checkpoint_id}' could not be {done} in {self._root}: "
                f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}. "
                "Make room or give write permission there, or name another place in checkpoint_storage."
            ) from error

    def _absent(self, checkpoint_id: str) -> str:
        ids = self.ids()
        near = difflib.get_close_matches(checkpoint_id, ids, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"There is no checkpoint '{checkpoint_id}' in {self._root}, which holds {len(ids)}.{hint}"


def absolute(plugin: str, name: str, value: str) -> Path:
    """The option `name` as a path.

    Raises:
        PluginError: it is relative: workers have other working directories than the command has.
    """
    path = Path(value)
    if not path.is_absolute():
        raise PluginError(f"'{name}' of {plugin} must be an absolute path, such as {Path.cwd() / path}, not {value!r}.")
    return Path(os.path.normpath(path))


@contextmanager
def _borrowed(folder: Path) -> Iterator[Path]:
    yield folder


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_content(folder: Path) -> None:
    """Make all files and folders in `folder` durable, the manifest after all others, and `folder` itself last."""
    for path, _, names in os.walk(folder, topdown=False):
        for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
            _sync(Path(path, name))
        _sync(Path(path))


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all in it; nothing there is no error."""
    with suppress(FileNotFoundError):
        if _is_real_folder(path):
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_checkpoint(folder: Path) -> bool:
    return _is_real_folder(folder) and (folder / MANIFEST).is_file()


def staged(names: Iterable[str]) -> list[str]:
    """The ids of which there are staging folders among `names`, sorted."""
    found = (name.removeprefix(STAGING) for name in names if name.startswith(STAGING))
    return sorted(name for name in found if is_id(name))


def is_id(name: str) -> bool:
    """Whether `name` is a checkpoint id."""
    try:
        require_checkpoint_id(name)
    except CheckpointError:
        return False
    return True
