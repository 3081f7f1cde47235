"""Metrics: what a trial may return, and their means weighted by samples."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeGuard, final

import torch

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Execution, Measured

if TYPE_CHECKING:
    from torchmetrics import Metric


@final
@dataclass(frozen=True, slots=True)
class Weighted:
    """A value and what it counts for in a mean; made by `weighted`."""

    value: torch.Tensor | float
    weight: float


def weighted(value: torch.Tensor | float, weight: float) -> Weighted:
    """`value` (a number, or a tensor with one element) that counts as `weight` samples in the metric's mean.

    Needed only where a value is not a mean over the samples of the batch. As the training loss, `weight` is also what
    the batch counts for where gradients of several batches are aggregated.

    Raises:
        TrialError: the weight is negative or not finite.
    """
    count = float(weight)
    if not math.isfinite(count) or count < 0:
        raise TrialError(f"mt.weighted takes a weight of at least 0, not {weight!r}.")
    return Weighted(value, count)


@final
class _Series:
    """The values of one metric, kept where they are computed: reading a device's value would wait for it."""

    __slots__ = ("_chunks", "_execution", "_read", "pending", "weights")

    def __init__(self, execution: Execution) -> None:
        self.pending: list[torch.Tensor | float] = []
        self.weights: list[float] = []
        self._chunks: list[Any] = []  # vectors on the device
        self._read = torch.empty(0, dtype=torch.float64)  # those before them, on the CPU
        self._execution = execution

    def fold(self) -> None:
        """Make the pending values one vector."""
        if self.pending:
            self._chunks.append(self._execution.folded(self.pending))
            self.pending = []

    def extend(self, measured: Measured) -> None:
        """Add the values of several batches."""
        self.fold()
        self._chunks.append(measured.values)
        self.weights.extend(measured.weights)

    def values(self) -> torch.Tensor:
        """All values, in order, on the CPU."""
        self.fold()
        if self._chunks:
            self._read = torch.cat([self._read, self._execution.fetched(self._chunks)])
            self._chunks = []
        return self._read

    def total(self) -> tuple[float, float]:
        """The sum of all values times their weights, and that of the weights."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        values = self.values()
        counted = weights > 0  # a value of no weight has no say, not even as NaN
        return float((values[counted] * weights[counted]).sum()), float(weights.sum())

    def load(self, values: torch.Tensor, weights: list[float]) -> None:
        self._read = values
        self.weights = list(weights)


_Total = tuple[float, float]


@final
class Accumulator:
    """Gathers what `train_batch` or `evaluate_batch` return, batch by batch, into one mean per metric."""

    def __init__(self, method: str, execution: Execution) -> None:
        """`method` is the trial's method that returns the metrics, for errors; `execution` computes them."""
        self._method = method
        self._execution = execution
        self._series: dict[str, _Series] = {}
        self._objects: dict[str, Metric] = {}

    def add(self, metrics: Mapping[str, Any], size: float) -> None:
        """Add the metrics of a batch of `size` samples.

        Raises:
            TrialError: a value is none of those a metric can be.
        """
        for name, value in metrics.items():
            if isinstance(value, torch.Tensor) and value.numel() == 1:
                series = self._series.get(name) or self._begin(name)
                series.pending.append(value.detach() if value.ndim == 0 else value.detach().reshape(()))
                series.weights.append(size)
            else:
                self._add_other(name, value, size)

    def _begin(self, name: str) -> _Series:
        if not isinstance(name, str):
            raise TrialError(f"{self._method} returned a metric named {name!r}; names of metrics are text.")
        return self._series.setdefault(name, _Series(self._execution))

    def extend(self, metrics: Mapping[str, Measured]) -> None:
        """Add what a learner measured."""
        for name, measured in metrics.items():
            self._begin(name).extend(measured)

    def _add_other(self, name: str, value: object, size: float) -> None:
        if isinstance(value, Weighted):
            if isinstance(value.value, Weighted):
                raise TrialError(f"{self._method} returned the metric '{name}' weighted twice.")
            self.add({name: value.value}, value.weight)
        elif isinstance(value, Real):
            series = self._begin(name)
            series.pending.append(float(value))
            series.weights.append(size)
        elif is_metric_object(value):
            known = self._objects.setdefault(name, value)
            if known is not value:
                raise TrialError(
                    f"{self._method} returned a new torchmetrics object for '{name}' with every batch; make it once, "
                    "for example in __init__, and return the same one each time."
                )
        else:
            what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise TrialError(
                f"{self._method} returned {what} as the metric '{name}'. A metric is a number, a tensor with one "
                "element, mt.weighted(value, weight), or a torchmetrics.Metric."
            )

    def fold(self) -> None:
        """Give back the memory of single values; cheap, and waits for no device."""
        for series in self._series.values():
            series.fold()

    def values(self, name: str) -> torch.Tensor:
        """All values of the metric `name` in this period, in order, on the CPU."""
        return self._series[name].values()

    def counted(self, name: str) -> torch.Tensor:
        """Which of them have a weight: the others have no say."""
        return torch.tensor(self._series[name].weights, dtype=torch.float64) > 0

    def count(self, name: str) -> int:
        """How many values of the metric `name` there are in this period."""
        return len(self._series[name].weights)

    def names(self) -> tuple[str, ...]:
        """The metrics that are means of values."""
        return tuple(self._series)

    def finish(self) -> dict[str, float]:
        """The metrics of the period, which ends with this: what is added from now on is another one's.

        They are those of all ranks together, and the same on each. A collective.

        Raises:
            TrialError: a torchmetrics object computes no single number, or is not there on every rank.
        """
        totals = {name: series.total() for name, series in self._series.items()}
        if self._execution.ranks.layout.size > 1:
            totals = self._of_all_ranks(totals)
        result = {name: total / weight if weight > 0 else math.nan for name, (total, weight) in totals.items()}
        result.update({name: self._compute(name, metric) for name, metric in self._objects.items()})
        self._series = {}
        self._objects = {}
        return result

    def _of_all_ranks(self, totals: dict[str, _Total]) -> dict[str, _Total]:
        execution = self._execution
        every: list[tuple[dict[str, _Total], list[str]]] = execution.ranks.gather((totals, list(self._objects)))
        for rank, (_, objects) in enumerate(every):
            if objects != every[0][1]:
                raise TrialError(
                    f"{self._method} returned other torchmetrics objects on rank {rank} "
                    f"({', '.join(objects) or 'none'}) than on rank 0 ({', '.join(every[0][1]) or 'none'}). They are "
                    "computed over all slots together, so each must return the same ones, in the same order."
                )
        for metric in self._objects.values():
            compute_over(metric, execution)
        summed: dict[str, _Total] = {}
        for values, _ in every[:: execution.ranks.layout.mesh.tensor]:  # tensor ranks of one data rank have the same
            for name, (total, weight) in values.items():
                before = summed.get(name, (0.0, 0.0))
                summed[name] = (before[0] + total, before[1] + weight)
        return summed

    def _compute(self, name: str, metric: Metric) -> float:
        value = metric.compute()
        metric.reset()
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            return float(value.item())
        raise TrialError(
            f"The torchmetrics object of the metric '{name}' ({type(metric).__name__}) computes no single number. "
            "Choose an average over classes, or return its parts as metrics of their own."
        )

    def state_dict(self) -> dict[str, Any]:
        """The open period. The states of torchmetrics objects are the trial's (see `trial_metrics`)."""
        return {
            name: {"values": series.values(), "weights": list(series.weights)} for name, series in self._series.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to `state`."""
        self._series = {}
        for name, saved in state.items():
            self._begin(name).load(saved["values"], saved["weights"])


def is_metric_object(value: object) -> TypeGuard[Metric]:
    """Whether `value` is a torchmetrics.Metric; does not import torchmetrics, which takes seconds."""
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and isinstance(value, torchmetrics.Metric)


def trial_metrics(trial: object) -> dict[str, Metric]:
    """The torchmetrics objects that are attributes of `trial`, or lie in a list, tuple or map that is one."""
    found: dict[str, Metric] = {}
    for name, value in vars(trial).items():
        if is_metric_object(value):
            found[name] = value
            continue
        parts: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, Mapping | torch.nn.ModuleDict):
            parts = value.items()
        elif isinstance(value, list | tuple | torch.nn.ModuleList):
            parts = enumerate(value)
        found.update({f"{name}.{key}": part for key, part in parts if is_metric_object(part)})
    return found


def compute_over(metric: Metric, execution: Execution) -> None:
    """Let `metric` be computed over all data ranks of `execution`, each counted once."""
    for part in metric.modules():  # one may be made of others
        if is_metric_object(part):
            part.process_group = execution.data_group
            if execution.data_group is None:
                part.distributed_available_fn = _never  # it would take all processes for data ranks


def _never() -> bool:
    return False


def metric_state(metric: Metric) -> dict[str, Any]:
    """What `metric` has gathered so far."""
    return {"states": dict(metric.metric_state), "updates": metric.update_count}


def load_metric_state(metric: Metric, state: Mapping[str, Any]) -> None:
    """Go back to what `metric_state` returned."""
    metric.reset()
    for name, value in state["states"].items():
        moved = [v.to(metric.device) for v in value] if isinstance(value, list) else value.to(metric.device)
        setattr(metric, name, moved)
    metric._update_count = state["updates"]  # torchmetrics has no public way; it only spares a warning


@final
class Untouched:
    """The torchmetrics objects of a trial as they are now, to be put back after a batch that counts nothing."""

    def __init__(self, trial: object) -> None:
        self._kept = [(metric, _copied(metric_state(metric))) for metric in trial_metrics(trial).values()]

    def put_back(self) -> None:
        """Forget what the objects were updated with since."""
        for metric, state in self._kept:
            load_metric_state(metric, state)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    states = {
        name: [v.clone() for v in value] if isinstance(value, list) else value.clone()  # an update may be in place
        for name, value in state["states"].items()
    }
    return {**state, "states": states}


def without_weights(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """`metrics` of a batch that counts nothing: what was given a weight of its own has none."""
    return {
        name: Weighted(value.value, 0.0) if isinstance(value, Weighted) else value for name, value in metrics.items()
    }
