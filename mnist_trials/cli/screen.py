"""What a command prints: for a person, or one JSON document for a program."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO, final

from mnist_trials.errors import UsageError

ATTENTION = "ATTENTION"
"""How a line begins that nobody should miss."""


@final
class Screen:
    """stdout and stderr, with their roles.

    Without `json`, what was asked for goes to stdout. With it, stdout holds one document and the rest goes to stderr.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.documented = False  # whether the document is out

    @property
    def stream(self) -> TextIO:
        """Where text for a person goes."""
        return sys.stderr if self.json else sys.stdout

    @property
    def _escaped(self) -> bool:
        """Whether stdout cannot show every character."""
        return (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")

    def say(self, text: str = "") -> None:
        """A line for a person; seen at once, also through a pipe. Lost where nobody reads any more.

        Raises:
            UsageError: it cannot be written (a full disk).
        """
        _put(text, self.stream)

    def warn(self, text: str) -> None:
        """A line on stderr; lost where it cannot be written: there is no other place to say so."""
        with suppress(UsageError):
            _put(text, sys.stderr)

    def document(self, value: Any) -> None:
        """The JSON document; called once per command. Lost, or UsageError, as with `say`."""
        self.documented = True
        _put(json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=self._escaped), sys.stdout)

    def long_document(self, head: Mapping[str, Any], name: str, items: Iterable[Any]) -> None:
        """As `document`, of `head` with a list of `items` by `name` at its end, without holding them all at once."""
        rest = iter(items)
        item = next(rest, None)  # what cannot be had at all should say so before a document is begun
        self.documented = True
        lines = json.dumps(plain({**head, name: []}), indent=2, allow_nan=False, ensure_ascii=self._escaped)
        if item is None:
            _put(lines, sys.stdout)
            return
        _put(lines.removesuffix("]\n}"), sys.stdout)
        while item is not None:
            following = next(rest, None)
            text = json.dumps(plain(item), allow_nan=False, ensure_ascii=self._escaped)
            _put(f"    {text}{'' if following is None else ','}", sys.stdout)
            item = following
        _put("  ]\n}", sys.stdout)

    def raw(self, data: bytes) -> None:
        """Bytes on stdout, as they are.

        Raises:
            BrokenPipeError: nobody reads any more.
            UsageError: they cannot be written.
        """
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            discard(sys.stdout)
            raise _unwritable(error) from error

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keeps stdout for the document while code runs that may print: with `json`, it prints on stderr meanwhile."""
        if not self.json:
            yield
            return
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under a header, in columns."""
        for line in table(header, rows):
            self.say(line)


def _put(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        discard(stream)
    except OSError as error:
        discard(stream)
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> UsageError:
    return UsageError(f"the output cannot be written: {error.strerror}")


def mend_streams() -> None:
    """Have a usable stdin, stdout and stderr, whatever this process was started with.

    One that is closed leads nowhere from now on: the next file opened would take its number, and be taken for it. What
    their encoding lacks is shown as an escape.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def discard(stream: TextIO) -> None:
    """Let everything go nowhere from now on that is written to `stream`, with what lies in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def plain(value: Any) -> Any:
    """`value` in strict JSON's own types: records and mappings as dicts, numbers that are not finite as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(entry) for entry in value]
    return value


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines with aligned columns: columns of numbers to the right, all others to the left; None is shown as `-`."""
    right = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(header))]
    cells = [tuple(header), *(tuple(cell(value) for value in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return ["  ".join(_padded(row, widths, right)).rstrip() for row in cells]


def cell(value: object) -> str:
    """`value` as one cell of a table, on one line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(str(value).split())


def metrics_text(metrics: Mapping[str, float | None]) -> str:
    """`accuracy 0.9832  validation_loss 0.0481`; a value that was not finite is shown as `nan`."""
    return "  ".join(f"{name} {'nan' if value is None else format(value, '.4g')}" for name, value in metrics.items())


def date(seconds: float) -> str:
    """A point in time, by the wall clock, as `2026-01-31 23:59:59`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """`8.2 s`, `3 min 05 s`, `2 h 04 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _padded(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    return [
        text.rjust(width) if to_right else text.ljust(width)
        for text, width, to_right in zip(row, widths, right, strict=True)
    ]
