"""Learning rate schedules of the references' parameter files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mnist_trials.errors import ConfigError
from mnist_trials.plugin.rates import rate_schedule
from tests.mnist.translating import Changed

SCHEDULES: list[tuple[dict[str, Any] | list[dict[str, Any]], Callable[[int], float]]] = [
    ({"scheduler": "Constant", "learning_rate": 0.1}, lambda step: 0.1),
    (
        {"scheduler": "Exponential", "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5},
        lambda step: 0.1 * 0.5 ** (step / 10),
    ),
    (
        {"scheduler": "Exponential", "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5,
         "staircase": True},
        lambda step: 0.1 * 0.5 ** (step // 10),
    ),
    (
        {"scheduler": "PiecewiseConstant", "boundaries": [10, 20], "values": [0.1, 0.05, 0.2]},
        lambda step: 0.1 if step < 10 else 0.05 if step < 20 else 0.2,
    ),
    (
        {"scheduler": "Linear", "initial_learning_rate": 0.0, "end_learning_rate": 0.1, "decay_steps": 20},
        lambda step: 0.1 * min(step / 20, 1),
    ),
    (
        {"scheduler": "Polynomial", "initial_learning_rate": 0.1, "end_learning_rate": 0.02, "decay_steps": 20,
         "power": 2},
        lambda step: 0.02 + 0.08 * (1 - min(step / 20, 1)) ** 2,
    ),
    (
        {
            "scheduler": "InverseExponentialTimeDecay", "initial_learning_rate": 0.1, "step_exponent": 2,
            "decay_steps": 10, "decay_rate": 0.5,
        },
        lambda step: 0.1 / (1 + 0.5 * (step / 10) ** 2),
    ),
    (
        {"scheduler": "CosineDecay", "initial_learning_rate": 0.1, "end_learning_rate": 0.0, "decay_steps": 20},
        lambda step: 0.1 if step == 0 else 0.05 if step == 10 else 0.0 if step >= 20 else None,
    ),
    (
        {"scheduler": "CosineAnnealing", "initial_learning_rate": 0.1, "T_max": 20, "eta_min": 0.02},
        {0: 0.1, 10: 0.06, 20: 0.02}.get,
    ),
    (
        {"scheduler": "Step", "initial_learning_rate": 0.1, "step_size": 10, "gamma": 0.5},
        lambda step: 0.1 * 0.5 ** (step // 10),
    ),
    (
        {"scheduler": "MultiStep", "initial_learning_rate": 0.1, "milestones": [10, 15], "gamma": 0.5},
        lambda step: 0.1 * 0.5 ** ((step >= 10) + (step >= 15)),
    ),
    (
        [
            {"scheduler": "Linear", "initial_learning_rate": 0.0, "end_learning_rate": 0.2, "steps": 10},
            {"scheduler": "CosineDecay", "initial_learning_rate": 0.2, "end_learning_rate": 0.0, "steps": 20},
            {"scheduler": "Constant", "learning_rate": 0.05},
        ],
        {0: 0.0, 5: 0.1, 10: 0.2, 20: 0.1, 30: 0.05, 40: 0.05}.get,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "rate"), SCHEDULES, ids=[str(given)[:60] for given, _ in SCHEDULES])
def test_a_schedule_of_fc_mnist_has_the_rates_it_has_there(
    changed: Changed, given: Any, rate: Callable[[int], float | None]
) -> None:
    hparams = changed("fc_mnist", {"optimizer.learning_rate": given}).config["hyperparameters"]
    base, schedule = hparams["learning_rate"], rate_schedule(hparams)
    assert schedule is None or schedule.per == "batch"
    for step in (0, 5, 10, 15, 20, 30, 40):
        if (expected := rate(step)) is not None:
            assert (schedule.curve(base, step) if schedule else base) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("fast", "a number, a map with `scheduler`, or a list of such maps"),
        ({"scheduler": "Lambda"}, "a trial's own build_lr_scheduler"),
        ({"scheduler": "Exponental"}, "there is no scheduler 'Exponental'. Did you mean 'exponential'?"),
        ({"scheduler": "Step", "initial_learning_rate": 0.1, "step_size": 0, "gamma": 1}, "'step_size' of the"),
        ({"scheduler": "Constant", "learning_rate": 0.0}, "the rate is 0 throughout"),
        (
            [{"scheduler": "Constant", "learning_rate": rate} for rate in (0.1, 0.2)],
            "schedule 1 of the list has no `steps`",
        ),
        (
            [
                {"scheduler": "Constant", "learning_rate": 0.1, "steps": 5},
                {"scheduler": "Step", "initial_learning_rate": 0.01, "step_size": 5, "gamma": 0.5},
            ],
            "begins at 0.01, and another one comes to 0.1",
        ),
    ],
)
def test_a_schedule_that_cannot_be_had_is_refused(changed: Changed, given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        changed("fc_mnist", {"optimizer.learning_rate": given})
    assert message in str(refused.value)
