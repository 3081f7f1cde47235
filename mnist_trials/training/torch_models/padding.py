"""Short batches where every size of a batch costs a program: filled up, and each of their samples counted all the same.

The last batch of a pass is filled up with copies of its last sample. Its metrics are then taken sample by sample
(`torch.func.vmap` over batches of one), and their mean is that over the samples that are there: what the metrics of the
short batch would have been wherever they are means over samples, which is tried out on a few of them first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, Final, final

import torch

from mnist_trials.plugin import Execution
from mnist_trials.training.data.feeds import Share
from mnist_trials.training.data.filling import changed, cut, size_of
from mnist_trials.training.data.random_state import seeded
from mnist_trials.training.measures.losses import as_metrics
from mnist_trials.training.measures.metrics import trial_metrics
from mnist_trials.training.trial import Trial

_TRIED: Final = 3  # samples
_TOLERANCE: Final = {torch.bfloat16: 0.05, torch.float16: 0.01}  # of a metric that was computed in another order
_EXACT: Final = 1e-3


@final
class NotBySample(Exception):
    """Why the metrics of a batch cannot be had from those of its samples."""


@final
class BySample:
    """Calls a trial's `train_batch` and `evaluate_batch` with batches that may have been filled up (see `fill`).

    A batch that was not is handed on as it is. Where the metrics of samples are not to be had, one that was is cut
    to its own size, which is said once, and costs a program of its own.
    """

    def __init__(self, trial: Trial, execution: Execution, notice: Callable[[str], None]) -> None:
        self._trial = trial
        self._execution = execution
        self._notice = notice
        self._works: dict[str, bool] = {}
        self._size = 0

    def watched(self, shares: Iterator[Share]) -> Iterator[Share]:
        """`shares`, of each of which it is then known how many samples are there."""
        for share in shares:
            self._size = share[1]
            yield share

    def train_batch(self, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        """As the trial's, of the batch that `watched` gave last."""
        return self._measured("train_batch", batch, self._size, epoch_idx, batch_idx)

    def evaluate_batch(self, batch: Any, size: int, batch_idx: int) -> Any:
        """As the trial's, of the first `size` samples of `batch`."""
        return self._measured("evaluate_batch", batch, size, batch_idx)

    def _measured(self, method: str, batch: Any, size: int, *where: int) -> Any:
        call = getattr(self._trial, method)
        rows = size_of(batch)
        if size == 0 or size >= rows:
            return call(batch, *where)
        if self._works.get(method, True):
            try:
                if method not in self._works:
                    self._try_out(method, batch, where)
                    self._works[method] = True
                return mean_by_sample(call, batch, _weights(rows, size).to(self._execution.device), *where)
            except Exception as error:  # an error that is the trial's own is raised again by what follows
                self._works[method] = False
                self._tell(method, size, rows, error)
        return call(cut(batch, size), *where)

    def _tell(self, method: str, size: int, rows: int, error: Exception) -> None:
        first = str(error).strip().partition("\n")[0]
        reason = first if isinstance(error, NotBySample) else f"{type(error).__name__}: {first}"
        self._notice(
            f"The last batch of a pass has {size} samples, the others {rows}. {method} cannot be computed for it "
            f"sample by sample ({reason.rstrip('.')}), so it keeps its size and is compiled by itself."
        )

    def _try_out(self, method: str, batch: Any, where: tuple[int, ...]) -> None:
        """Compare, on a few samples, the metrics of a batch with the means over its samples; on the CPU.

        Raises:
            NotBySample: they are not the same, or cannot be compared.
        """
        trial = self._trial
        if trial_metrics(trial):
            raise NotBySample("it updates torchmetrics objects")
        few = self._execution.readable(cut(batch, _TRIED))
        model, before = trial.model, dict(vars(trial))
        trial._model = _on_cpu(model, self._execution).eval()
        try:
            with torch.no_grad(), seeded(0):
                call, weights = getattr(trial, method), _weights(size_of(few), size_of(few))
                means = _numbers(mean_by_sample(call, few, weights, *where))
                whole = _numbers(as_metrics(call(few, *where), manual=False))
                trial._model.train(model.training)
                mean_by_sample(call, few, weights, *where)  # a layer may need a batch, or keep something of it
        finally:
            trial._model = model
        if not _same(vars(trial), before):
            vars(trial).clear()
            vars(trial).update(before)
            raise NotBySample("it changes attributes of the trial")
        tolerance = _TOLERANCE.get(next((p.dtype for p in model.parameters()), torch.float32), _EXACT)
        for name, value in whole.items():
            if not torch.allclose(value, means[name], rtol=tolerance, atol=tolerance, equal_nan=True):
                raise NotBySample(f"its metric '{name}' is no mean over samples")


def mean_by_sample(call: Callable[..., Any], batch: Any, weights: torch.Tensor, *where: int) -> dict[str, Any]:
    """The metrics that `call` returns for each sample of `batch`, a batch of one, and their sums by `weights`.

    Gradients flow through them. Numbers among the metrics are handed on.

    Raises:
        NotBySample: a metric is neither a number nor a tensor of one element.
        Exception: whatever `call` or vmap raises.
    """
    numbers: dict[str, Any] = {}

    def one(sample: Any) -> dict[str, torch.Tensor]:
        metrics = as_metrics(call(changed(sample, lambda tensor: tensor.unsqueeze(0)), *where), manual=False)
        found: dict[str, torch.Tensor] = {}
        for name, value in metrics.items():
            if isinstance(value, torch.Tensor) and value.numel() == 1:
                found[name] = value.reshape(())
            elif isinstance(value, Real):
                numbers[name] = value
            else:
                raise NotBySample(f"its metric '{name}' is {type(value).__name__}")
        return found

    values: dict[str, torch.Tensor] = torch.func.vmap(one, randomness="different")(batch)
    sums = {name: torch.where(weights > 0, value.float() * weights, 0.0).sum() for name, value in values.items()}
    return {**sums, **numbers}


def _weights(rows: int, size: int) -> torch.Tensor:
    """Equal ones that sum up to 1, of the first `size` of `rows`."""
    weights = torch.zeros(rows)
    weights[:size] = 1 / size
    return weights


def _on_cpu(model: torch.nn.Module, execution: Execution) -> torch.nn.Module:
    """A copy of `model` there, parameters and buffers read at once."""
    held = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    read: dict[int, torch.Tensor] = execution.readable(held)
    copies: dict[int, Any] = {
        key: torch.nn.Parameter(read[key].detach().cpu().clone())
        if isinstance(held[key], torch.nn.Parameter)
        else read[key].detach().cpu().clone()
        for key in held
    }
    return copy.deepcopy(model, copies)


def _same(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return now.keys() == before.keys() and all(now[name] is value for name, value in before.items())


def _numbers(metrics: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value).detach().double().reshape(()) for name, value in metrics.items()}
