"""The file that a trial's output goes to: bytes as they come, rotated by size."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import final

MAX_BYTES = 10_000_000
KEPT = 3
LONGEST_LINE = 65_536


@final
class RotatingLog:
    """Appends bytes to `path`; a full file becomes `path.1`, that one `path.2`, and so on up to `path.<kept>`.

    A file is full with the line that takes it past `max_bytes`, or at twice that where lines have no end. Every write
    reaches the operating system before it returns. Not thread-safe.

    Raises:
        OSError: the file cannot be opened; `write` raises it too.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        while self._size + len(data) > self._max_bytes:
            end_of_line = data.find(b"\n", max(0, self._max_bytes - self._size)) + 1
            if not end_of_line and self._size + len(data) <= 2 * self._max_bytes:
                break
            cut = end_of_line or len(data)
            self._append(data[:cut])
            self._rotate()
            data = data[cut:]
        self._append(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def _append(self, data: bytes) -> None:
        if self._file.closed:  # a rotation failed before
            self._open()
        while data:
            written = self._file.write(data)
            self._size += written
            data = data[written:]

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._kept, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            with suppress(FileNotFoundError):
                newer.replace(older)
        self._open()


@final
class LineMarker:
    """Puts `mark` before every line of a stream that comes in pieces, so that several streams can share a file.

    Whole lines are given out; a line longer than LONGEST_LINE bytes is broken.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The lines that `data` completes, marked."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        return b"".join(self._mark + line + b"\n" for line in lines)

    def finish(self) -> bytes:
        """What is left of a last line that has no end."""
        rest, self._rest = self._rest, b""
        return self._mark + rest + b"\n" if rest else b""
