from __future__ import annotations

import pytest

from mnist_trials.experiment.bookkeeping import Goal, with_checkpoints, with_validation
from mnist_trials.records import TrialState
from mnist_trials.store.rows import TrialRow

SMALLER, LARGER = Goal("m", True), Goal("m", False)
TRIAL = TrialRow(
    experiment_id=1,
    trial_id=1,
    state=TrialState.RUNNING,
    hparams={},
    seed=0,
)


@pytest.mark.parametrize(
    ("goal", "values", "best"),
    [
        (SMALLER, [0.5, 0.2, 0.2, 0.9], (0.2, 2)),
        (LARGER, [0.5, 0.9, 0.9, 0.2], (0.9, 2)),
        (SMALLER, [None, 7.0, None], (7.0, 2)),
        (LARGER, [None, -7.0, None], (-7.0, 2)),
        (SMALLER, [0.0, None], (0.0, 1)),
        (SMALLER, [None, None], (None, None)),
    ],
)
def test_the_best_is_the_first_of_the_best_and_none_is_the_worst(
    goal: Goal, values: list[float | None], best: tuple[float | None, int | None]
) -> None:
    trial = TRIAL
    for batches, value in enumerate(values, start=1):
        trial = with_validation(trial, goal, batches, {"m": value})
    assert (trial.best_metric, trial.best_batches) == best


def test_the_best_checkpoint_is_one_of_the_very_batch_of_the_best_validation() -> None:
    trial = with_validation(TRIAL, SMALLER, 4, {"m": 1.0})
    assert with_checkpoints(trial, [(2, "a"), (6, "c")]).best_checkpoint is None
    assert with_checkpoints(trial, [(2, "a"), (4, "b"), (6, "c")]).best_checkpoint == "b"
    assert with_checkpoints(trial, [(2, "a"), (4, "b"), (6, "c")]).latest_checkpoint == "c"
    assert with_checkpoints(trial, []).latest_checkpoint is None
    assert with_checkpoints(TRIAL, [(2, "a")]).best_checkpoint is None
