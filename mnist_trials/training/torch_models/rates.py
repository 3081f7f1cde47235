"""The hyperparameter `lr_schedule` for torch's optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from mnist_trials.plugin.rates import Curve, rate_schedule
from mnist_trials.training.torch_models.schedule import LRSchedule

_KEPT: Final = ("base_lrs", "last_epoch", "_step_count", "_last_lr")


@final
class CurveLR(LRScheduler):
    """Sets the rate of each group of parameters to `curve(base, step)`."""

    def __init__(self, optimizer: Optimizer, curve: Curve) -> None:
        self._curve = curve
        super().__init__(optimizer)

    @override
    def get_lr(self) -> list[Any]:
        return [self._curve(float(base), self.last_epoch) for base in self.base_lrs]

    @override
    def state_dict(self) -> dict[str, Any]:
        """The step and the rates; the curve follows from the hyperparameters."""
        return {name: getattr(self, name) for name in _KEPT}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to `state_dict`, or to that of torch's scheduler of the same meaning."""
        for name in _KEPT:
            setattr(self, name, state_dict[name])


def schedules_from_hparams(optimizer: Any, hparams: Mapping[str, Any]) -> list[LRSchedule]:
    """What the hyperparameter `lr_schedule` says, for `optimizer` or each of several in a dict; empty without it.

    Raises:
        TrialError: see `mnist_trials.plugin.rates.rate_schedule`.
    """
    schedule = rate_schedule(hparams)
    if schedule is None:
        return []
    optimizers = optimizer.values() if isinstance(optimizer, Mapping) else (optimizer,)
    return [LRSchedule(CurveLR(each, schedule.curve), per=schedule.per) for each in optimizers]
