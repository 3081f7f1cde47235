"""The snapshot of the user's code: what an experiment runs on, whatever becomes of the original."""

from __future__ import annotations

import heapq
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mnist_trials.errors import UsageError

MAX_BYTES = 100_000_000
MAX_FILES = 20_000
_SHOWN = 5

_SKIPPED_FOLDERS = {
    ".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox",
    ".ipynb_checkpoints", "node_modules", ".cache", ".venv", ".eggs",
}  # fmt: skip
_SKIPPED_SUFFIXES = {".pyc", ".pyo"}


@final
@dataclass(frozen=True, slots=True)
class _Entry:
    source: Path
    relative: Path
    kind: str  # "folder", "file", "link"
    size: int = 0
    target: str = ""  # of a link


def take_snapshot(context: Path, target: Path, *, without: Path) -> None:
    """Copy the code in `context` to the new folder `target`.

    Left out are version control, caches, virtual environments, compiled files, checkpoints, the folder `without` (the
    home), and what is neither file nor folder. A symbolic link that stays within `context` stays a link; one to a file
    outside becomes a copy of it; one to a folder outside (a data set, usually) goes on pointing there.

    Raises:
        UsageError: it is too big, or something cannot be read; the text names it and says what to do.
    """
    entries = list(_measured(context.resolve(), without.resolve()))
    try:
        target.mkdir(parents=True)
        for entry in entries:
            _copy(entry, target / entry.relative)
    except OSError as error:
        raise UsageError(
            f"The context {context} cannot be copied to {target}: {error.strerror or error} ({error.filename})."
        ) from error


def _measured(context: Path, without: Path) -> Iterator[_Entry]:
    total = 0
    biggest: list[tuple[int, str]] = []
    for count, entry in enumerate(_walk(context, context, without), start=1):
        total += entry.size
        if entry.size:
            heapq.heappush(biggest, (entry.size, str(entry.relative)))
            if len(biggest) > _SHOWN:
                heapq.heappop(biggest)
        if count > MAX_FILES:
            raise UsageError(_too_big(context, f"holds more than {MAX_FILES:,} files", biggest))
        if total <= MAX_BYTES:
            yield entry
    if total > MAX_BYTES:
        what = f"holds {total / 1e6:.0f} MB of files (at most {MAX_BYTES / 1e6:.0f} MB are copied)"
        raise UsageError(_too_big(context, what, biggest))


def _walk(folder: Path, root: Path, without: Path) -> Iterator[_Entry]:
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"The context cannot be read: {error.strerror} ({folder}).") from error
    for child in children:
        relative = child.relative_to(root)
        if child.is_symlink():
            yield from _link(child, relative, root)
        elif child.is_dir():
            if not _is_skipped(child, without):
                yield _Entry(child, relative, "folder")
                yield from _walk(child, root, without)
        elif child.suffix not in _SKIPPED_SUFFIXES and stat.S_ISREG((status := child.lstat()).st_mode):
            yield _Entry(child, relative, "file", status.st_size)


def _link(link: Path, relative: Path, root: Path) -> Iterator[_Entry]:
    try:
        pointed = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return  # it leads nowhere, or round in a circle
    if pointed.is_relative_to(root):
        yield _Entry(link, relative, "link", target=os.path.relpath(pointed, link.parent.resolve()))
    elif pointed.is_dir():
        yield _Entry(link, relative, "link", target=str(pointed))
    elif pointed.is_file():
        yield _Entry(pointed, relative, "file", pointed.stat().st_size)


def _is_skipped(folder: Path, without: Path) -> bool:
    return (
        folder.name in _SKIPPED_FOLDERS
        or folder.name.endswith(".egg-info")
        or (folder / "pyvenv.cfg").exists()
        or ((folder / "manifest.json").exists() and (folder / "model.safetensors").exists())
        or folder == without
    )


def _copy(entry: _Entry, target: Path) -> None:
    if entry.kind == "folder":
        target.mkdir()
    elif entry.kind == "link":
        target.symlink_to(entry.target)
    else:
        shutil.copy2(entry.source, target, follow_symlinks=True)


def _too_big(context: Path, what: str, biggest: list[tuple[int, str]]) -> str:
    files = ", ".join(f"{name} ({size / 1e6:.1f} MB)" for size, name in sorted(biggest, reverse=True))
    return (
        f"The context {context} {what}. The biggest: {files}. The context is the folder of the entrypoint's code (by "
        "default that of the config): keep data elsewhere (--data-root), or give another folder as CONTEXT; an empty "
        "one will do where the entrypoint is in an installed package."
    )
