"""By which of its metrics a validation is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from mnist_trials.errors import TrialError
from mnist_trials.training.session import Session


@final
class Judge:
    """Finds the metric that says how good a validation of `session` is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said = False  # that there is no such metric

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The one metric that says how good this validation is; None where there is no such metric at all."""
        session = self._session
        name = session.settings.metric
        if name is not None and name in metrics:
            return metrics[name]
        given = ", ".join(sorted(metrics))
        if name is not None and session.settings.metric_required:
            raise TrialError(
                f"The searcher judges trials by '{name}' (searcher.metric), but evaluate_batch gave: {given}."
            )
        if name is not None and session.context.in_experiment:
            return math.nan  # as the searcher sees it: the worst
        if "validation_loss" in metrics and session.settings.smaller_is_better:
            return metrics["validation_loss"]
        if session.learning.waits_for_metric:
            raise TrialError(
                "ReduceLROnPlateau needs the metric that the trial is judged by: name it as searcher.metric in the "
                f"config, or call it 'validation_loss'. evaluate_batch gave: {given}."
            )
        if session.settings.checkpoint_policy == "best" and not self._said:
            self._said = True
            session.context.notice(
                f"No validation metric is the one to judge by (there is no 'validation_loss' among {given}), so a "
                "checkpoint is saved after every validation, not only after the best."
            )
        return None
