from __future__ import annotations

from typing import Any

import pytest

from mnist_trials.errors import TrialError
from mnist_trials.plugin.updates import (
    aggregation_frequency,
    gradient_limits,
    optimizer_options,
    refuse_other_options,
)

GIVEN = {"optimizer": "sgd", "learning_rate": 0.1, "hidden": 3, "momentum": 0.9, "nesterov": None}


def test_only_options_of_optimizers_that_have_a_value_are_taken() -> None:
    assert optimizer_options(GIVEN, ("sgd",), build="an optimizer") == {"momentum": 0.9}


@pytest.mark.parametrize("name", ["optimizer", "learning_rate"])
def test_what_is_missing_is_told_with_what_to_do(name: str) -> None:
    text = rf"{name} missing\. Return a thing from build_optimizer, or give `optimizer` \(one of: adam, sgd\)"
    with pytest.raises(TrialError, match=text):
        optimizer_options({**GIVEN, name: None}, ("adam", "sgd"), build="a thing")


def test_an_option_that_an_optimizer_does_not_take_is_told_with_those_that_it_takes() -> None:
    refuse_other_options("'adam'", {"eps": 1.0}, ("betas", "eps", "params"))
    with pytest.raises(TrialError, match=r"^The optimizer 'adam' takes no momentum and no rho. It takes: betas, eps.$"):
        refuse_other_options("'adam'", {"momentum": 0.9, "rho": 0.1}, ("betas", "eps", "params"))


def test_without_hyperparameters_each_batch_makes_an_update_and_nothing_is_clipped() -> None:
    assert (aggregation_frequency({}), gradient_limits({})) == (1, (None, None))
    assert gradient_limits({"max_gradient_value": 1, "max_gradient_norm": 0.5}) == (1.0, 0.5)


@pytest.mark.parametrize("value", [0, 1.5, True, "2"])
def test_a_frequency_is_a_whole_number_of_at_least_1(value: Any) -> None:
    with pytest.raises(TrialError, match="'aggregation_frequency' must be a whole number of at least 1, not"):
        aggregation_frequency({"aggregation_frequency": value})


@pytest.mark.parametrize("name", ["max_gradient_value", "max_gradient_norm"])
@pytest.mark.parametrize("value", [0, -1.0, True, float("nan"), "2"])
def test_a_limit_is_a_number_above_0(name: str, value: Any) -> None:
    with pytest.raises(TrialError, match=f"'{name}' must be a number above 0, not"):
        gradient_limits({name: value})
