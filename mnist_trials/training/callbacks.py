"""Callbacks: a user's code at fixed points of training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, final

from typing_extensions import override

from mnist_trials.errors import TrialError


class Callback:
    """Override the hooks you need; the others are never called.

    Hooks run in the worker, in the order in which `build_callbacks` returned the callbacks. `Trainer.fit` shows where
    each one stands in the loop.
    """

    stop_reason: str | None = None  # set by `stop_training`

    def on_training_start(self) -> None:
        """Training begins, or goes on after it was restored from a checkpoint."""

    def on_epoch_start(self, epoch_idx: int) -> None:
        """Epoch `epoch_idx` (from 0) begins; not called again for one that is resumed in its middle."""

    def on_epoch_end(self, epoch_idx: int) -> None:
        """Epoch `epoch_idx` is done; its learning-rate schedules were stepped."""

    def on_validation_start(self) -> None:
        """A validation begins."""

    def on_validation_end(self, metrics: Mapping[str, float]) -> None:
        """A validation gave `metrics`; a checkpoint of this point is not saved yet."""

    def on_checkpoint_saved(self, uuid: str) -> None:
        """The checkpoint `uuid` lies complete in its storage; training may have gone on since it was taken."""

    def on_training_end(self) -> None:
        """`fit` is about to return: training is complete, or it was asked to stop. Not called after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: tensors, arrays and JSON values in dicts, lists and tuples."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` returned."""

    @final
    def stop_training(self, reason: str) -> None:
        """End training at this point as if its full length were reached; `reason` is said and recorded."""
        self.stop_reason = reason


@final
class EarlyStopping(Callback):
    """Ends training after `patience` validations in a row that were not better than the best one by `min_delta`.

    `mode` says what better is: "min" or "max". A metric that is not finite is never better.

    Raises:
        TrialError: an argument is out of range, or validation gives no such metric.
    """

    def __init__(
        self, metric: str, *, patience: int, min_delta: float = 0.0, mode: Literal["min", "max"] = "min"
    ) -> None:
        if patience < 1 or min_delta < 0 or mode not in ("min", "max"):
            raise TrialError(
                "EarlyStopping takes a patience of at least 1, a min_delta of at least 0 and the mode 'min' or 'max'; "
                f"not patience={patience}, min_delta={min_delta}, mode={mode!r}."
            )
        self._metric = metric
        self._patience = patience
        self._min_delta = min_delta
        self._sign = 1.0 if mode == "min" else -1.0
        self._best = math.inf  # times the sign: the lower the better
        self._waited = 0

    @override
    def on_validation_end(self, metrics: Mapping[str, float]) -> None:
        if self._metric not in metrics:
            raise TrialError(
                f"EarlyStopping waits for the validation metric '{self._metric}', but evaluate_batch gave: "
                f"{', '.join(sorted(metrics))}."
            )
        value = self._sign * metrics[self._metric]
        if value < self._best - self._min_delta:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self._patience:
            self.stop_training(
                f"'{self._metric}' has not improved for {self._waited} validations; its best was "
                f"{self._sign * self._best:.6g}"
            )

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]


@final
class Callbacks:
    """The callbacks of a trial, by name."""

    def __init__(self, built: object) -> None:
        """`built` is what `build_callbacks` returned: a list, or a dict by name.

        Raises:
            TrialError: it is something else.
        """
        self._all: dict[str, Callback] = dict(_named(built))

    @property
    def present(self) -> bool:
        """Whether there are any."""
        return bool(self._all)

    def call(self, hook: str, *arguments: Any) -> None:
        """Call `hook` of every callback that overrides it."""
        for callback in self._all.values():
            if getattr(type(callback), hook) is not getattr(Callback, hook):
                getattr(callback, hook)(*arguments)

    @property
    def stop_reason(self) -> str | None:
        """Why a callback wants training to end, if one does."""
        return next((f"{name}: {c.stop_reason}" for name, c in self._all.items() if c.stop_reason is not None), None)

    def state_dict(self) -> dict[str, Any]:
        """The states by name, and which of them have ended training."""
        return {
            name: {"state": callback.state_dict(), "stop_reason": callback.stop_reason}
            for name, callback in self._all.items()
        }

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Go back to `states`; a callback that is new since then starts afresh."""
        for name, callback in self._all.items():
            if name in states:
                callback.load_state_dict(states[name]["state"])
                callback.stop_reason = states[name]["stop_reason"]


def _named(built: object) -> Iterator[tuple[str, Callback]]:
    if isinstance(built, Mapping):
        pairs = [(str(name), callback) for name, callback in built.items()]
    elif isinstance(built, Sequence):
        pairs = [(f"{type(callback).__name__}.{index}", callback) for index, callback in enumerate(built)]
    else:
        pairs = [("", built)]
    for name, callback in pairs:
        if not isinstance(callback, Callback):
            raise TrialError(
                "build_callbacks must return mt.Callback objects in a list, or in a dict by name; it returned "
                f"{type(callback).__name__}."
            )
        yield name, callback
