"""Checkpoints on a file system that fsspec reaches; shared by the plugins `s3`, `gcs`, `azure`, `fsspec` and `memory`.

A checkpoint is the objects `<root>/<id>/<file>`. Its files are uploaded from a local staging folder, their sizes
compared, and then its manifest: an id without a manifest is no checkpoint, whatever else lies there. Deleting begins
with the manifest.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, final

from typing_extensions import override

from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import MANIFEST, CheckpointStorage, Stored, StoredFile, require_checkpoint_id
from mnist_trials.plugin.copying import Progress
from mnist_trials.plugin.scratch import Scratch
from mnist_trials_plugins.checkpoint_storage._failures import Failure, failure_of
from mnist_trials_plugins.checkpoint_storage._folder import STAGING, is_id, remove, staged
from mnist_trials_plugins.checkpoint_storage._places import hide, is_plain_file_name
from mnist_trials_plugins.checkpoint_storage._retry import Attempts, Retry

_HALF_WRITTEN = ".manifest.part"
_ONCE = Retry(seconds=0.0)


def _no_options(_size: int) -> Mapping[str, Any]:
    return {}


def _not_told(_done: int, _total: int) -> None:
    pass


def _nothing_to_sweep(_files: Any, _folder: str) -> None:
    pass


def _none_known(_files: Any, _folder: str) -> Iterable[str]:
    return ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A folder of a remote file system."""

    connect: Callable[[], tuple[Any, str]]  # makes the fsspec file system, and tells the folder's path on it
    url: str  # the folder, as a person writes it; holds no secret
    access: str  # what to look at when access is denied or the place is not there
    secrets: tuple[str, ...] = field(default=(), repr=False)  # never to be told
    local: bool = False
    whole_puts: bool = False  # whether a file appears at once when its upload is complete, and not before
    put_options: Callable[[int], Mapping[str, Any]] = _no_options  # of a file of so many bytes
    sweep: Callable[[Any, str], None] = _nothing_to_sweep  # ends unfinished uploads into a folder
    uploads: Callable[[Any, str], Iterable[str]] = _none_known  # the paths of those, from the folder


@final
class RemoteStorage(CheckpointStorage):
    """Keeps each checkpoint as files below the folder `remote`; what is written or read goes by the folder `staging`.

    Errors that may pass are tried again as `retry` says; others are told at once.
    """

    def __init__(self, remote: Remote, staging: Path, retry: Retry) -> None:
        self._remote = remote
        self._staging = staging
        self._retry = retry
        self._connected: tuple[int, Any, str] | None = None  # by process: connections do not survive a fork

    @property
    @override
    def local(self) -> bool:
        return self._remote.local

    @override
    def begin(self, checkpoint_id: str) -> Path:
        require_checkpoint_id(checkpoint_id)
        staging = self._staging_of(checkpoint_id)
        with self._explained("begun in", checkpoint_id) as attempts:
            if MANIFEST in (found := attempts.do(lambda: self._found(checkpoint_id))):
                raise CheckpointError(f"There is already a checkpoint '{checkpoint_id}' in {self._remote.url}.")
            self._clear(checkpoint_id, attempts, files=bool(found))
        with self._staged("begun", checkpoint_id):
            remove(staging)
            staging.mkdir(parents=True)
        return staging

    @override
    def commit(self, checkpoint_id: str) -> None:
        require_checkpoint_id(checkpoint_id)
        staging = self._staging_of(checkpoint_id)
        with self._staged("stored", checkpoint_id):
            if staging.is_symlink() or not staging.is_dir():
                raise CheckpointError(f"The checkpoint '{checkpoint_id}' was not begun for {self._remote.url}.")
            files = _files_in(staging)
        if MANIFEST not in files:
            raise CheckpointError(f"{staging} has no {MANIFEST}; without it it is no checkpoint and is not stored.")
        with self._explained("stored in", checkpoint_id) as attempts:
            if MANIFEST in attempts.do(lambda: self._found(checkpoint_id)):
                raise CheckpointError(f"There is already a checkpoint '{checkpoint_id}' in {self._remote.url}.")
            try:
                self._upload(checkpoint_id, files, attempts)
            except BaseException:
                # Nothing may be visible; and what was uploaded takes room.
                with suppress(Exception):
                    self._clear(checkpoint_id, _ONCE.start())
                raise
        with suppress(OSError):
            remove(staging)

    @override
    def fetch(self, checkpoint_id: str) -> AbstractContextManager[Path]:
        require_checkpoint_id(checkpoint_id)
        return self._fetched(checkpoint_id)

    @override
    def bring(self, checkpoint_id: str, folder: Path, told: Progress) -> None:
        require_checkpoint_id(checkpoint_id)
        self._download(checkpoint_id, self._to_fetch(checkpoint_id), folder, told)

    @override
    def delete(self, checkpoint_id: str) -> None:
        require_checkpoint_id(checkpoint_id)
        with self._explained("deleted from", checkpoint_id) as attempts:
            self._clear(checkpoint_id, attempts)
        with self._staged("deleted", checkpoint_id):
            remove(self._staging_of(checkpoint_id))

    @override
    def ids(self) -> list[str]:
        with self._explained("listed in") as attempts:
            names = attempts.do(lambda: self._sizes(self._root))
        folders = (name.removesuffix(f"/{MANIFEST}") for name in names if name.endswith(f"/{MANIFEST}"))
        return sorted(folder for folder in folders if is_id(folder))

    @override
    def unfinished(self) -> list[str]:
        with self._explained("listed in") as attempts:
            names = attempts.do(lambda: self._sizes(self._root))
            uploads = attempts.do(lambda: list(self._remote.uploads(self._files, self._root)))
        begun = {name.partition("/")[0] for name in (*names, *uploads) if "/" in name}
        complete = {name.removesuffix(f"/{MANIFEST}") for name in names if name.endswith(f"/{MANIFEST}")}
        return sorted({name for name in begun if is_id(name)}.union(self._staged_here()) - complete)

    @override
    def locate(self, checkpoint_id: str) -> str:
        require_checkpoint_id(checkpoint_id)
        return f"{self._remote.url}/{checkpoint_id}"

    @override
    def abandon(self, checkpoint_id: str) -> None:
        require_checkpoint_id(checkpoint_id)
        with suppress(Exception):
            self._clear(checkpoint_id, _ONCE.start())
        with suppress(OSError):
            remove(self._staging_of(checkpoint_id))

    @override
    def examine(self, checkpoint_id: str) -> Stored | None:
        """As `CheckpointStorage.examine`: the manifest is fetched, of the other files the listing tells the sizes."""
        require_checkpoint_id(checkpoint_id)
        with self._explained("examined in", checkpoint_id) as attempts:
            sizes = attempts.do(lambda: self._found(checkpoint_id))
            if MANIFEST not in sizes:
                return None
            path = f"{self._folder(checkpoint_id)}/{MANIFEST}"
            manifest = bytes(attempts.do(lambda: self._files.cat_file(path)))
        left_out = (MANIFEST, _HALF_WRITTEN)
        return Stored(manifest, {name: StoredFile(size) for name, size in sizes.items() if name not in left_out})

    def _staging_of(self, checkpoint_id: str) -> Path:
        return self._staging / f"{STAGING}{checkpoint_id}"

    def _staged_here(self) -> list[str]:
        try:
            return staged(os.listdir(self._staging))
        except OSError:  # nothing was ever written through it
            return []

    @contextmanager
    def _fetched(self, checkpoint_id: str) -> Iterator[Path]:
        sizes = self._to_fetch(checkpoint_id)
        with _local("fetched", checkpoint_id, Path(tempfile.gettempdir())):
            scratch = Scratch()
        try:
            folder = scratch.path / checkpoint_id
            self._download(checkpoint_id, sizes, folder)
            yield folder
        finally:
            scratch.remove()

    def _to_fetch(self, checkpoint_id: str) -> dict[str, int | None]:
        """The files of a checkpoint and their sizes."""
        with self._explained("fetched from", checkpoint_id) as attempts:
            sizes = attempts.do(lambda: self._found(checkpoint_id))
        if MANIFEST not in sizes:
            raise CheckpointError(self._absent(checkpoint_id))
        sizes.pop(_HALF_WRITTEN, None)  # of a writer that was killed between copying it and removing it
        if wrong := [name for name in sizes if not is_plain_file_name(name)]:
            raise CheckpointError(
                f"The checkpoint '{checkpoint_id}' in {self._remote.url} holds {wrong[0]!r}, a name that leads out of "
                "its folder; it is not fetched."
            )
        return sizes

    def _connection(self) -> tuple[int, Any, str]:
        if self._connected is None or self._connected[0] != os.getpid():
            self._connected = (os.getpid(), *self._remote.connect())
        return self._connected

    @property
    def _files(self) -> Any:
        return self._connection()[1]

    @property
    def _root(self) -> str:
        return self._connection()[2].rstrip("/")

    def _folder(self, checkpoint_id: str) -> str:
        return f"{self._root}/{checkpoint_id}"

    def _found(self, checkpoint_id: str) -> dict[str, int | None]:
        return self._sizes(self._folder(checkpoint_id))

    def _sizes(self, folder: str) -> dict[str, int | None]:
        """Every file below `folder`, by its path from there, and its size where the file system tells it."""
        self._files.invalidate_cache()
        try:
            found = self._files.find(folder, detail=True)
        except FileNotFoundError:
            if self._remote.whole_puts:
                raise  # an object store knows no folders: it is the bucket that is not there
            return {}
        prefix = f"{folder.rstrip('/')}/"
        return {
            path.removeprefix(prefix): info.get("size")
            for path, info in found.items()
            if path.startswith(prefix) and info.get("type") == "file"
        }

    def _upload(self, checkpoint_id: str, files: Mapping[str, Path], attempts: Attempts) -> None:
        """Upload `files`, the manifest last, once all others are there in their sizes."""
        sizes = {name: path.stat().st_size for name, path in files.items()}
        for name in sorted(set(files) - {MANIFEST}):
            self._put(files[name], f"{self._folder(checkpoint_id)}/{name}", attempts)
        self._require(checkpoint_id, {name: size for name, size in sizes.items() if name != MANIFEST}, attempts)
        manifest = f"{self._folder(checkpoint_id)}/{MANIFEST}"
        if self._remote.whole_puts:
            self._put(files[MANIFEST], manifest, attempts)
        else:
            half_written = f"{self._folder(checkpoint_id)}/{_HALF_WRITTEN}"
            self._put(files[MANIFEST], half_written, attempts)
            self._require(checkpoint_id, {_HALF_WRITTEN: sizes[MANIFEST]}, attempts)
            # One that is not there any more was moved by an attempt whose answer got lost.
            attempts.do(lambda: _gone(lambda: self._files.mv(half_written, manifest)))
        self._require(checkpoint_id, {MANIFEST: sizes[MANIFEST]}, attempts)

    def _put(self, path: Path, name: str, attempts: Attempts) -> None:
        options = self._remote.put_options(path.stat().st_size)
        if not self._remote.whole_puts:  # it may be one with folders that must be there first
            attempts.do(lambda: self._files.makedirs(name.rpartition("/")[0], exist_ok=True))
        attempts.do(lambda: self._files.put_file(str(path), name, **options))

    def _require(self, checkpoint_id: str, sizes: Mapping[str, int], attempts: Attempts) -> None:
        stored = attempts.do(lambda: self._found(checkpoint_id))
        for name, size in sizes.items():
            if name not in stored:
                raise CheckpointError(f"{self.locate(checkpoint_id)}/{name} was uploaded and is not there.")
            if stored[name] not in (size, None):
                raise CheckpointError(
                    f"{self.locate(checkpoint_id)}/{name} was uploaded and has {stored[name]} bytes, not {size}."
                )

    def _download(
        self, checkpoint_id: str, sizes: Mapping[str, int | None], folder: Path, told: Progress = _not_told
    ) -> None:
        total, done = sum(filter(None, sizes.values())), 0
        with self._explained("fetched from", checkpoint_id) as attempts:
            for name, size in sizes.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                remote = f"{self._folder(checkpoint_id)}/{name}"
                heard = _heard(told, done, total)
                attempts.do(
                    lambda remote=remote, path=path, heard=heard: self._files.get_file(remote, str(path), **heard)  # type: ignore[misc]
                )
                if size is not None and path.stat().st_size != size:
                    raise CheckpointError(
                        f"{self.locate(checkpoint_id)}/{name} has {size} bytes, of which {path.stat().st_size} came."
                    )
                done += path.stat().st_size
                told(done, max(done, total))

    def _clear(self, checkpoint_id: str, attempts: Attempts, *, files: bool = True) -> None:
        """Remove everything below an id, the manifest first; `files` False: there are only unfinished uploads."""
        folder = self._folder(checkpoint_id)
        if files:
            attempts.do(lambda: _gone(lambda: self._files.rm_file(f"{folder}/{MANIFEST}")))
            attempts.do(lambda: _gone(lambda: self._files.rm(folder, recursive=True)))
        attempts.do(lambda: self._remote.sweep(self._files, folder))

    @contextmanager
    def _explained(self, done: str, checkpoint_id: str | None = None) -> Iterator[Attempts]:
        """Attempts at an operation; what it raises in the end comes out as a CheckpointError without secrets."""
        attempts = self._retry.start()
        try:
            yield attempts
        except CheckpointError:
            raise
        except Exception as error:
            what = "The checkpoints" if checkpoint_id is None else f"The checkpoint '{checkpoint_id}'"
            told = str(error) or type(error).__name__
            text = f"{what} could not be {done} {self._remote.url}: {self._reason(error, told, attempts)}"
            # The original error is shown with this one where it has nothing to hide.
            clean = hide(repr(error), self._remote.secrets) == repr(error)
            raise CheckpointError(hide(text, self._remote.secrets)) from (error if clean else None)

    def _reason(self, error: Exception, told: str, attempts: Attempts) -> str:
        told = told.rstrip(".")
        match failure_of(error):
            case Failure.TRANSIENT:
                return (
                    f"it did not answer as it should, tried {attempts.tried} times in {attempts.failing:.0f} s: "
                    f"{told}. Check the network and the service; what is written to it later is tried anew."
                )
            case Failure.DENIED:
                return f"access was denied: {told}. {self._remote.access}"
            case Failure.ABSENT:
                return f"it was not found: {told}. {self._remote.access}"
            case Failure.OTHER:
                return f"{type(error).__name__}: {told}."

    def _staged(self, done: str, checkpoint_id: str) -> AbstractContextManager[None]:
        return _local(done, checkpoint_id, self._staging)

    def _absent(self, checkpoint_id: str) -> str:
        ids = self.ids()
        near = difflib.get_close_matches(checkpoint_id, ids, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"There is no checkpoint '{checkpoint_id}' in {self._remote.url}, which holds {len(ids)}.{hint}"


@contextmanager
def _local(done: str, checkpoint_id: str, place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint '{checkpoint_id}' could not be {done}: its files pass through {place} on this machine, "
            f"where: {error.strerror or error}. Make room or give write permission there."
        ) from error


def _heard(told: Progress, done: int, total: int) -> Mapping[str, Any]:
    """What has a file system tell how much of a file has come, when `done` bytes came before it; where it can."""
    if told is _not_told:
        return {}
    from fsspec.callbacks import Callback

    return {
        "callback": Callback(hooks={"told": lambda _size, value, **_: told(done + value, max(done + value, total))})
    }


def _gone(remove: Callable[[], object]) -> None:
    with suppress(FileNotFoundError):
        remove()


def _files_in(folder: Path) -> dict[str, Path]:
    """Every file in `folder`, by its path from there; OSError comes out of it, CheckpointError for what is no file."""
    files = {}
    for path, folders, names in os.walk(folder, onerror=_raise):
        for name in (*names, *(name for name in folders if Path(path, name).is_symlink())):
            file = Path(path, name)
            if file.is_symlink() or not file.is_file():
                raise CheckpointError(f"{file} is no regular file; a checkpoint holds nothing else.")
            files[str(PurePosixPath(file.relative_to(folder)))] = file
    return dict(sorted(files.items()))


def _raise(error: OSError) -> None:
    raise error
