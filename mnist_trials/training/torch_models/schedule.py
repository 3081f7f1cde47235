"""Learning-rate schedules: a torch scheduler and when it is stepped."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mnist_trials.errors import TrialError
from mnist_trials.plugin.rates import PER, Per


@final
@dataclass(frozen=True, slots=True)
class LRSchedule:
    """A torch scheduler that is stepped after every `per`: "epoch", "batch" or "optimizer_step".

    A batch and an optimizer step differ where gradients of several batches are aggregated.

    Raises:
        TrialError: `per` is something else, or the scheduler waits for a metric.
    """

    scheduler: LRScheduler
    per: Per = "epoch"

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise TrialError(f"LRSchedule is stepped per one of {', '.join(PER)}, not per {self.per!r}.")
        if isinstance(self.scheduler, ReduceLROnPlateau):
            raise TrialError(
                "ReduceLROnPlateau is stepped after every validation, with the metric the trial is judged by; return "
                "it from build_lr_scheduler without LRSchedule."
            )


@final
class Schedules:
    """All the schedules of a trial, sorted by when they are stepped."""

    def __init__(self, built: object) -> None:
        """`built` is what `build_lr_scheduler` returned: None, a schedule, or several in a list or by name.

        Raises:
            TrialError: it is something else.
        """
        self._all: list[LRScheduler | ReduceLROnPlateau] = []
        self._plateaus: list[ReduceLROnPlateau] = []
        self._begun: set[LRScheduler] = set()
        self._per: dict[str, list[LRScheduler]] = {per: [] for per in PER}
        for entry in _entries(built):
            self._add(entry)

    def _add(self, entry: object) -> None:
        if isinstance(entry, LRSchedule):
            self._all.append(entry.scheduler)
            self._per[entry.per].append(entry.scheduler)
        elif isinstance(entry, ReduceLROnPlateau):
            self._all.append(entry)
            self._plateaus.append(entry)
        elif isinstance(entry, LRScheduler):
            self._all.append(entry)
            self._per["epoch"].append(entry)
        else:
            raise TrialError(
                "build_lr_scheduler must return a torch learning-rate scheduler, mt.LRSchedule(scheduler, per=...), "
                f"several of them, or None; it returned {type(entry).__name__}."
            )

    def has(self, per: Per) -> bool:
        """Whether any is stepped after every `per`."""
        return bool(self._per[per])

    def step(self, per: Per, optimizer: Optimizer | None = None) -> None:
        """Another `per` is done; `optimizer`: step only the schedules of this one."""
        for scheduler in self._per[per]:
            if optimizer is not None and scheduler.optimizer is not optimizer:
                continue
            if scheduler in self._begun:
                scheduler.step()
            else:
                self._first_step(scheduler)

    def _first_step(self, scheduler: LRScheduler) -> None:
        """Torch warns where no update came before, as it may be while gradients are aggregated or overflow."""
        self._begun.add(scheduler)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)`", UserWarning)
            scheduler.step()

    @property
    def waits_for_metric(self) -> bool:
        """Whether one of them needs the validation metric."""
        return bool(self._plateaus)

    def validated(self, metric: float) -> None:
        """A validation gave `metric`."""
        for plateau in self._plateaus:
            plateau.step(metric)

    def state_dict(self) -> list[dict[str, Any]]:
        """The states, in the order in which the schedules were returned."""
        return [scheduler.state_dict() for scheduler in self._all]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Go back to `states`.

        Raises:
            TrialError: they are of another number of schedules.
        """
        if len(states) != len(self._all):
            raise TrialError(
                f"The checkpoint holds the state of {len(states)} learning-rate schedules, but build_lr_scheduler "
                f"returned {len(self._all)}."
            )
        for scheduler, state in zip(self._all, states, strict=True):
            scheduler.load_state_dict(state)


def _entries(built: object) -> Iterator[object]:
    if built is None:
        return
    if isinstance(built, Mapping):
        yield from built.values()
    elif isinstance(built, list | tuple):
        yield from built
    else:
        yield built
