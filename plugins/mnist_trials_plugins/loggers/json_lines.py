"""The logger `json_lines`: everything that happens in an experiment, one JSON object per line of a file.

    loggers:
      - json_lines
      - {name: json_lines, path: /data/events.jsonl}

Without `path` the file is `events.jsonl` in the experiment's folder for files; a relative path starts there too. The
file is appended to, also when an experiment goes on. Each line has `time` (seconds since 1970), `experiment_id` and
`what`: "start", "trial", "event" or "finish"; what an event holds stands in `event`, as the store has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from mnist_trials.clock import Clock, SystemClock
from mnist_trials.events import Event, to_json
from mnist_trials.plugin import Logger, LoggerContext, Options, PluginRecord, hookimpl, refuse_unknown, text_option

_SELF = "the logger 'json_lines'"


@final
class JsonLines(Logger):
    """Appends to the file `path`; None: `events.jsonl` in the experiment's folder."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._file: Path | None = None
        self._experiment_id = 0

    @override
    def start(self, context: LoggerContext) -> None:
        self._file = context.directory / (self._path or "events.jsonl")
        self._experiment_id = context.experiment_id
        self._file.parent.mkdir(parents=True, exist_ok=True)
        _end_last_line(self._file)
        self._write("start", name=context.name, config=context.config)

    @override
    def trial_created(self, trial_id: int, hparams: Mapping[str, Any]) -> None:
        self._write("trial", trial_id=trial_id, hparams=hparams)

    @override
    def event(self, event: Event) -> None:
        self._write("event", event=to_json(event))

    @override
    def finish(self, summary: Mapping[str, Any]) -> None:
        self._write("finish", summary=summary)

    def _write(self, what: str, **content: Any) -> None:
        if self._file is None:
            raise RuntimeError("the logger was not started")
        line = {"time": self._clock.wall(), "experiment_id": self._experiment_id, "what": what, **content}
        # Opened anew for each line and written at once: whoever moves the file away or reads it meets whole lines.
        with self._file.open("ab", buffering=0) as file:
            file.write(json.dumps(line, allow_nan=False).encode("ascii") + b"\n")


def create(options: Options) -> Logger:
    """The logger with the option `path`.

    Raises:
        PluginError: an option is unknown or not text.
    """
    refuse_unknown(_SELF, options, ("path",))
    path = text_option(_SELF, options, "path")
    return JsonLines(None if path is None else Path(path), SystemClock())


@hookimpl
def mnist_trials_loggers() -> Iterable[PluginRecord[Logger]]:
    """The plugin's record."""
    return [PluginRecord("json_lines", "Every event as a line of JSON in a file", create)]


def _end_last_line(file: Path) -> None:
    """End the line that a killed process left half-written, so that the next one stands alone."""
    with file.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
