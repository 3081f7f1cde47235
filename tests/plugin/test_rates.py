"""Learning rate schedules as functions: the same as torch's, and what must hold of each."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedules

from mnist_trials.errors import TrialError
from mnist_trials.plugin.rates import SCHEDULES, Curve, rate_schedule


def curve(**described: Any) -> Curve:
    schedule = rate_schedule({"lr_schedule": described})
    assert schedule is not None
    return schedule.curve


def rates_of_torch(make: Any, base: float, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


AS_TORCH: list[tuple[dict[str, Any], Any]] = [
    ({"name": "step", "step_size": 3}, lambda o: torch_schedules.StepLR(o, 3)),
    ({"name": "step", "step_size": 1, "gamma": 0.5}, lambda o: torch_schedules.StepLR(o, 1, 0.5)),
    (
        {"name": "multistep", "milestones": [7, 2, 7], "gamma": 0.3},
        lambda o: torch_schedules.MultiStepLR(o, [7, 2, 7], 0.3),
    ),
    ({"name": "exponential", "gamma": 0.9}, lambda o: torch_schedules.ExponentialLR(o, 0.9)),
    ({"name": "linear"}, torch_schedules.LinearLR),
    (
        {"name": "linear", "start_factor": 1.0, "end_factor": 0.1, "total_iters": 9},
        lambda o: torch_schedules.LinearLR(o, 1.0, 0.1, 9),
    ),
    ({"name": "polynomial"}, torch_schedules.PolynomialLR),
    (
        {"name": "polynomial", "total_iters": 11, "power": 2.5},
        lambda o: torch_schedules.PolynomialLR(o, 11, 2.5),
    ),
    (
        {"name": "cosine", "T_max": 13, "eta_min": 0.01},
        lambda o: torch_schedules.CosineAnnealingLR(o, 13, 0.01),
    ),
    ({"name": "cosine_restarts", "T_0": 4}, lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 4)),
    (
        {"name": "cosine_restarts", "T_0": 3, "T_mult": 2, "eta_min": 0.02},
        lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 3, 2, 0.02),
    ),
    (
        {"name": "inverse_time", "decay_rate": 0.5, "decay_steps": 4},
        lambda o: torch_schedules.LambdaLR(o, lambda step: 1 / (1 + 0.5 * step / 4)),
    ),
    (
        {"name": "sequence", "schedules": [{"name": "linear", "steps": 5}, {"name": "exponential", "gamma": 0.8}]},
        lambda o: torch_schedules.SequentialLR(
            o, [torch_schedules.LinearLR(o), torch_schedules.ExponentialLR(o, 0.8)], [5]
        ),
    ),
]


@pytest.mark.parametrize(("described", "make"), AS_TORCH, ids=[str(described)[:70] for described, _ in AS_TORCH])
def test_the_rates_are_those_of_torchs_scheduler(described: dict[str, Any], make: Any) -> None:
    found = [curve(**described)(0.3, step) for step in range(60)]
    assert found == pytest.approx(rates_of_torch(make, 0.3, 60), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("described", "rates"),
    [
        ({"name": "piecewise_constant", "milestones": [2, 3], "factors": [1, 0.5, 0.1]}, [2, 2, 1, 0.2, 0.2]),
        ({"name": "polynomial", "total_iters": 2, "end_factor": 0.5}, [2, 1.5, 1, 1]),
        ({"name": "cosine_decay", "total_iters": 2, "end_factor": 0.5}, [2, 1.5, 1, 1]),
        ({"name": "inverse_time", "decay_rate": 1, "decay_steps": 2, "staircase": True}, [2, 2, 1, 1, 2 / 3]),
        ({"name": "inverse_time", "decay_rate": 1, "power": 2}, [2, 1, 0.4, 0.2]),
        (
            {
                "name": "sequence",
                "schedules": [
                    {"name": "constant", "steps": 2},
                    {"name": "step", "step_size": 1, "gamma": 0.5, "steps": 2},
                    {"name": "linear", "start_factor": 0.5, "end_factor": 0, "total_iters": 2},
                ],
            },
            [2, 2, 2, 1, 1, 0.5, 0, 0],
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_schedules_that_torch_does_not_have(described: dict[str, Any], rates: list[float]) -> None:
    assert [curve(**described)(2.0, step) for step in range(len(rates))] == pytest.approx(rates)


NUMBER = st.floats(0.01, 1.0)
COUNT = st.integers(1, 40)
FALLING = st.one_of(
    st.fixed_dictionaries({"name": st.just("step"), "step_size": COUNT, "gamma": NUMBER}),
    st.fixed_dictionaries({"name": st.just("multistep"), "milestones": st.lists(COUNT), "gamma": NUMBER}),
    st.fixed_dictionaries({"name": st.just("exponential"), "gamma": NUMBER}),
    st.fixed_dictionaries(
        {"name": st.just("linear"), "start_factor": st.just(1.0), "end_factor": NUMBER, "total_iters": COUNT}
    ),
    st.fixed_dictionaries(
        {"name": st.just("polynomial"), "total_iters": COUNT, "power": st.floats(0.5, 4), "end_factor": NUMBER}
    ),
    st.fixed_dictionaries(
        {"name": st.just("inverse_time"), "decay_rate": NUMBER, "decay_steps": COUNT, "staircase": st.booleans()}
    ),
    st.fixed_dictionaries({"name": st.just("cosine_decay"), "total_iters": COUNT, "end_factor": NUMBER}),
)


@given(FALLING, st.floats(1e-5, 10))
def test_one_that_decays_begins_at_the_base_never_rises_and_never_falls_below_zero(
    described: dict[str, Any], base: float
) -> None:
    rates = [curve(**described)(base, step) for step in range(100)]
    assert rates[0] == pytest.approx(base)
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(rates))
    assert min(rates) >= 0


@given(st.lists(st.tuples(FALLING, st.integers(1, 30)), min_size=1, max_size=4), st.floats(1e-5, 10))
def test_each_stage_of_a_sequence_is_that_schedule_from_its_own_step_0(
    stages: list[tuple[dict[str, Any], int]], base: float
) -> None:
    whole = curve(name="sequence", schedules=[{**described, "steps": steps} for described, steps in stages])
    step = 0
    for described, steps in stages:
        alone = curve(**described)
        assert [whole(base, step + own) for own in range(steps)] == [alone(base, own) for own in range(steps)]
        step += steps


@given(COUNT, NUMBER, COUNT)
def test_a_warm_up_that_ends_where_the_next_begins_leaves_no_gap(length: int, start: float, after: int) -> None:
    warm_up = {"name": "linear", "start_factor": start, "end_factor": 1.0, "total_iters": length, "steps": length}
    whole = curve(name="sequence", schedules=[warm_up, {"name": "cosine_decay", "total_iters": after}])
    rates = [whole(1.0, step) for step in range(length + after + 1)]
    assert rates[length] == pytest.approx(1.0)
    # The longest stride of half a cosine wave is at its middle.
    steepest = max((1 - start) / length, math.pi / 2 / after)
    assert all(abs(b - a) <= steepest + 1e-9 for a, b in pairwise(rates))


def test_without_the_hyperparameter_there_is_no_schedule() -> None:
    assert rate_schedule({}) is None
    assert rate_schedule({"lr_schedule": None}) is None


@pytest.mark.parametrize("described", ["constant", {"name": "constant"}, {"name": "Constant", "per": "batch"}])
def test_constant_is_no_schedule(described: object) -> None:
    assert rate_schedule({"lr_schedule": described}) is None


def test_it_counts_epochs_unless_it_says_otherwise() -> None:
    for given_per, per in ({}, "epoch"), ({"per": "batch"}, "batch"), ({"per": "optimizer_step"}, "optimizer_step"):
        schedule = rate_schedule({"lr_schedule": {"name": "cosine", "T_max": 100, **given_per}})
        assert schedule is not None
        assert schedule.per == per


def test_every_name_is_tried_here() -> None:
    tried = {described["name"] for described, _ in AS_TORCH}
    assert set(SCHEDULES) == tried | {"constant", "piecewise_constant", "cosine_decay"}


SEQUENCE = {"name": "sequence", "schedules": [{"name": "step", "step_size": 1}, {"name": "constant"}]}


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"name": "cosin"}, r"named 'cosin'\. Did you mean 'cosine'\? Known: constant, cosine,"),
        ({"name": ["step"]}, r"No learning rate schedule is named \['step'\]"),
        ({"name": "step", "stepsize": 2}, r"no option 'stepsize'\. Did you mean 'step_size'\? It takes: .*per"),
        ({"name": "step"}, r"'step' needs the option 'step_size': a whole number of at least 1"),
        ({"name": "cosine", "T_max": "many"}, r"'T_max' of .* 'cosine' is a whole number of at least 1, not 'many'"),
        ({"name": "step", "step_size": 0}, r"'step_size' of .* 'step' is a whole number of at least 1, not 0"),
        ({"name": "step", "step_size": 2, "gamma": True}, r"'gamma' of .* 'step' is a number of at least 0, not True"),
        ({"name": "exponential", "gamma": -1}, r"'gamma' of .* is a number of at least 0, not -1"),
        ({"name": "exponential", "gamma": math.inf}, r"not inf"),
        ({"name": "multistep", "milestones": 3}, r"'milestones' of .* is a list of whole numbers, not 3"),
        ({"step_size": 2}, r"a name or a map with `name`"),
        ([{"name": "step"}], r"a name or a map with `name`"),
        ({"name": "exponential", "gamma": 0.5, "per": "week"}, r"'per' .* one of epoch, batch, .*, not 'week'"),
        ({"name": "piecewise_constant", "milestones": [2], "factors": [1]}, r"one factor more.*not milestones \[2\]"),
        ({"name": "piecewise_constant", "milestones": [3, 2], "factors": [1, 1, 1]}, r"in rising order"),
        ({"name": "sequence", "schedules": []}, r"'schedules' of .* is a list of maps with `name`, not \[\]"),
        (SEQUENCE, r"'steps' of schedule 1 of the lr_schedule 'sequence' is missing"),
        (
            {"name": "sequence", "schedules": [{"name": "constant", "steps": 0}, {"name": "constant"}]},
            r"'steps' of schedule 1 .* is a whole number of at least 1, not 0",
        ),
        (
            {"name": "sequence", "schedules": [{"name": "constant", "per": "batch"}]},
            r"'constant' has no option 'per'\..* It takes: steps",
        ),
        (
            {"name": "sequence", "schedules": [{"name": "cosine", "Tmax": 2}]},
            r"'cosine' has no option 'Tmax'\. Did you mean 'T_max'\?",
        ),
    ],
)
def test_a_mistake_is_refused_with_what_is_allowed(described: object, message: str) -> None:
    with pytest.raises(TrialError, match=message):
        rate_schedule({"lr_schedule": described})
