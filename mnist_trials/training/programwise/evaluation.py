"""`compile: program`: evaluating batches by captured programs."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, final

import torch
from torch.utils import _pytree as pytree

from mnist_trials.errors import ProgramError
from mnist_trials.programs.graph import Graph
from mnist_trials.programs.steps import Steps
from mnist_trials.training.context import TrialContext
from mnist_trials.training.programwise.capture import CapturedStep, pure
from mnist_trials.training.programwise.shelf import Bound, Shelf, constants_of, dense, kinds_of
from mnist_trials.training.trial import Trial


@final
class ProgramEvaluation:
    """Evaluates batches by a program of `evaluate_batch`.

    Where no program can do what that does, it is called as it is, which is said: a validation that gathers metrics in
    Python is no reason not to train by programs.
    """

    def __init__(self, trial: Trial, model: torch.nn.Module, context: TrialContext) -> None:
        self._trial = trial
        self._model = model
        self._context = context
        self._shelf = Shelf(context, trial, model)
        self._constants: Hashable = None
        self._refused = False

    @property
    def programs(self) -> tuple[Bound, ...]:
        """Those made so far."""
        return self._shelf.programs

    def evaluate_batch(self, batch: Any, size: int, batch_idx: int) -> Any:
        """The metrics of `batch`, as the trial's own method has them."""
        if not self._refused:
            leaves = pytree.tree_leaves(batch)
            if batch_idx == 0:  # the user's code may have run since the last validation
                self._constants = constants_of(self._model)
            try:
                bound = self._shelf.find((kinds_of(leaves), self._constants), lambda: self._capture(batch))
                with torch.autocast(self._context.device.type, enabled=False):  # a program has its casts in it
                    return bound.run(dense(leaves))
            except ProgramError as error:
                self._refused = True
                self._context.notice(f"Validations are computed without a program. {error}")
        return self._trial.evaluate_batch(batch, batch_idx)

    def _capture(self, batch: Any) -> Bound:
        captured = CapturedStep(self._trial, self._context.execution, "evaluate", batch)
        steps = Steps(self._model, captured.forward, captured.inputs)
        with pure(self._trial):
            graph = Graph.of("evaluate", steps.outputs, steps.weights, captured.inputs)
        return self._shelf.bind(graph, steps.weights, captured.weights)
