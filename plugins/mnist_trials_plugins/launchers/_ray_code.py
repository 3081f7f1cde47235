"""The code of an experiment on its way to a node that does not see this machine's files."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, final


@final
@dataclass(frozen=True, slots=True)
class Parcel:
    """An archive in the object store. The reference lies in a list, so that Ray does not fetch it unasked."""

    digest: str
    reference: list[Any]


@final
class Code:
    """The snapshot of an experiment's code; packed and put into the object store once, when it is first needed."""

    def __init__(self, context: Path) -> None:
        self._context = context
        self._lock = Lock()
        self._parcel: Parcel | None = None

    def parcel(self) -> Parcel:
        """The archive.

        Raises:
            OSError: the folder cannot be read.
        """
        import ray

        with self._lock:
            if self._parcel is None:
                archive = pack(self._context)
                self._parcel = Parcel(hashlib.sha256(archive).hexdigest(), [ray.put(archive)])
            return self._parcel


def pack(folder: Path) -> bytes:
    """All that lies in `folder` as a .tar.gz: the same bytes for the same files.

    Raises:
        OSError: something cannot be read, or there is no such folder.
    """
    os.listdir(folder)  # tarfile would make an archive of what is no folder too
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        archive.add(folder, arcname=".", filter=_of_nobody)
    return buffer.getvalue()


def _of_nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def unpack(parcel: Parcel, contexts: Path) -> Path:
    """The folder on this node that holds what was packed; fetched and unpacked once for all that use it.

    Raises:
        OSError: it cannot be written.
        tarfile.TarError: the archive is damaged.
    """
    import ray

    folder = contexts / parcel.digest
    if folder.is_dir():
        return folder
    archive: bytes = ray.get(parcel.reference[0])
    contexts.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=contexts, prefix="new-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            opened.extractall(new, filter="tar")
        new.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another rank of this node was quicker
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder
