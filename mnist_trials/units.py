"""Lengths and periods of training: batches, epochs, records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final


@dataclass(frozen=True, slots=True)
class Unit:
    """A positive count of batches, epochs or records. Use `Batch`, `Epoch` or `Record`.

    Raises:
        TypeError: the value is not an int.
        ValueError: the value is below 1.
    """

    value: int
    key: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if type(self) is Unit:
            raise TypeError("use Batch, Epoch or Record")
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise TypeError(f"{type(self).__name__} takes a whole number, not {self.value!r}")
        if self.value < 1:
            raise ValueError(f"{type(self).__name__} takes a number of at least 1, not {self.value}")

    def to_config(self) -> dict[str, int]:
        """As it stands in an experiment config: `{"batches": 100}`."""
        return {self.key: self.value}


@final
@dataclass(frozen=True, slots=True)
class Batch(Unit):
    """A number of batches; one batch is one call of `train_batch` on every data-parallel slot."""

    key: ClassVar[str] = "batches"


@final
@dataclass(frozen=True, slots=True)
class Epoch(Unit):
    """A number of passes over the training data."""

    key: ClassVar[str] = "epochs"


@final
@dataclass(frozen=True, slots=True)
class Record(Unit):
    """A number of training records (samples), over all slots."""

    key: ClassVar[str] = "records"


UNITS: dict[str, type[Batch] | type[Epoch] | type[Record]] = {
    "batches": Batch,
    "epochs": Epoch,
    "records": Record,
}

# When something is due: every `Unit`, or once at each of the given points.
Schedule = Unit | Sequence[Unit]
