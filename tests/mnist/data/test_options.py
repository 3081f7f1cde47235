"""The `data` section, as the MNIST trials read it."""

from __future__ import annotations

from typing import Any

import pytest

from mnist_trials.errors import ConfigError
from mnist_trials.mnist.data.options import DataOptions, read_options


def test_an_empty_section_is_all_defaults() -> None:
    assert read_options({}) == DataOptions()


def test_every_option_is_read() -> None:
    section: dict[str, Any] = {
        "name": "mnist",
        "loader": "torchvision",
        "normalize": "unit",
        "train_ratio": 0.8,
        "split_seed": 42,
        "one_hot": True,
        "drop_last": True,
        "dtype": "bfloat16",
        "num_workers": 2,
        "fake": True,
    }
    assert read_options(section) == DataOptions(**section)


def test_all_mistakes_are_told_at_once_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        read_options({"normalise": "unit", "name": "mnits", "train_ratio": 1.5})
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "data.normalise: there is no such option. Did you mean 'data.normalize'?" in text
    assert "data.name is one of auto, mnist, digits, not 'mnits'. Did you mean 'mnist'?" in text
    assert "data.train_ratio is a number between 0 and 1, both left out, such as 0.8; not 1.5." in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("one_hot", 1),
        ("drop_last", "yes"),
        ("split_seed", -1),
        ("split_seed", True),
        ("num_workers", 1.5),
        ("train_ratio", 1.0),
        ("train_ratio", True),
        ("dtype", "float16"),
        ("loader", None),
        ("fake", "no"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key} is "):
        read_options({key: value})


def test_workers_without_the_loader_that_has_them_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.num_workers: only `loader: torchvision` has workers"):
        read_options({"num_workers": 2})
