"""Rows of the tables to records and back. Columns are named as the fields that they hold; JSON is strict JSON."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

from mnist_trials.events import histogram_from_json
from mnist_trials.records import ErrorInfo, ExperimentState, Histogram, Outcome, ProcessIdentity, TrialState
from mnist_trials.store.rows import (
    CheckpointRow,
    DecisionRow,
    ExperimentRow,
    HistogramRow,
    LeaseRow,
    MetricRow,
    NoticeRow,
    RunRow,
    TrialRow,
    WaitingRow,
)

Column: TypeAlias = str | int | float | bytes | None
Columns = dict[str, Column]

R = TypeVar("R")


def to_text(value: object) -> str:
    """Strict JSON; mappings that are no dicts are taken as dicts.

    Raises:
        ValueError: there is a NaN or an infinity in it.
    """
    return _ENCODER.encode(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


# `json.dumps` would make one at every call.
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain)


@final
@dataclass(frozen=True, slots=True)
class _Form:
    """How a field is stored that SQLite cannot hold as it is. None is stored as NULL."""

    write: Callable[[Any], Column]
    read: Callable[[Any], Any]


def _choice(kind: type[StrEnum]) -> _Form:
    return _Form(lambda value: value.value, kind)


def _compressed(histograms: Iterable[Histogram]) -> bytes:
    return zlib.compress(to_text([asdict(histogram) for histogram in histograms]).encode("ascii"))


def _decompressed(content: bytes) -> tuple[Histogram, ...]:
    return tuple(map(histogram_from_json, json.loads(zlib.decompress(content))))


_FLAG: Final = _Form(int, bool)
_JSON: Final = _Form(to_text, json.loads)
_TUPLE: Final = _Form(to_text, lambda text: tuple(json.loads(text)))
_ERROR: Final = _Form(lambda error: to_text(asdict(error)), lambda text: ErrorInfo(**json.loads(text)))
_PROCESSES: Final = _Form(
    lambda processes: to_text([asdict(process) for process in processes]),
    lambda text: tuple(ProcessIdentity(**process) for process in json.loads(text)),
)


@final
class Table(Generic[R]):
    """What a table holds: records of one kind."""

    def __init__(self, record: type[R], names: Mapping[str, str] | None = None, **forms: _Form) -> None:
        """`names`: of columns that are not named as their field; `forms`: of fields that are not stored as they are."""
        self._record = record
        names = names or {}
        each = [field.name for field in fields(record)]  # type: ignore[arg-type]  # all are dataclasses
        self._fields = [(name, names.get(name, name), forms.get(name)) for name in each]

    def columns(self, record: R, **others: Column) -> Columns:
        """`record` as columns, and `others` beside it; all but the sequence."""
        values = others
        for name, column, form in self._fields:
            value = getattr(record, name)
            values[column] = value if form is None or value is None else form.write(value)
        return values

    def record(self, row: sqlite3.Row) -> R:
        """What a row holds."""
        values = {}
        for name, column, form in self._fields:
            value = row[column]
            values[name] = value if form is None or value is None else form.read(value)
        return self._record(**values)


EXPERIMENTS: Final = Table(ExperimentRow, state=_choice(ExperimentState), config=_JSON, options=_JSON)
TRIALS: Final = Table(
    TrialRow,
    state=_choice(TrialState),
    hparams=_JSON,
    stopped_early=_FLAG,
    dataset_fallback=_FLAG,
    best_metrics=_JSON,
    error=_ERROR,
    stop_requested=_FLAG,
    resting=_FLAG,
)
RUNS: Final = Table(
    RunRow,
    outcome=_choice(Outcome),
    slots=_TUPLE,
    exit_codes=_TUPLE,
    error=_ERROR,
    processes=_PROCESSES,
)
LEASES: Final = Table(LeaseRow)
WAITING: Final = Table(
    WaitingRow, units=_Form(lambda units: to_text(sorted(units)), lambda text: frozenset(json.loads(text)))
)
METRICS: Final = Table(MetricRow, metrics=_JSON)
HISTOGRAMS: Final = Table(HistogramRow, {"histograms": "content"}, histograms=_Form(_compressed, _decompressed))
CHECKPOINTS: Final = Table(CheckpointRow, metrics=_JSON, verified=_FLAG)
NOTICES: Final = Table(NoticeRow)
DECISIONS: Final = Table(DecisionRow, actions=_TUPLE)
