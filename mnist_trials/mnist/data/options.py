"""The `data` section of an experiment config, as the trials of this package read it (see docs/data.md)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, final

from mnist_trials.errors import ConfigError, Problem

Name = Literal["auto", "mnist", "digits"]
Loader = Literal["tensor", "torchvision"]
Normalize = Literal["standard", "unit"]
DType = Literal["float32", "bfloat16"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """What a trial trains on, and how the data reach it."""

    name: Name = "auto"  # auto: MNIST, or the bundled digits where it is not to be had
    loader: Loader = "tensor"  # one uint8 tensor, or a torchvision dataset behind a DataLoader
    normalize: Normalize = "standard"  # (x - 0.1307) / 0.3081 of x in 0..1, or x in 0..1 itself
    train_ratio: float | None = None  # None: the official split; else this share of the training set trains
    split_seed: int = 0  # of the permutation behind `train_ratio`
    one_hot: bool = False  # labels as vectors of 10 instead of class numbers
    drop_last: bool = False  # leave out a last batch that is short, in training and in validation
    dtype: DType = "float32"  # of the images handed to the trial, and of one-hot labels
    num_workers: int = 0  # processes of the DataLoader (loader: torchvision)
    fake: bool | Mapping[str, int] = False  # random images and labels, perhaps {train: n, test: n}; none are looked for


def read_options(section: Mapping[str, Any]) -> DataOptions:
    """The options behind a config's `data` section.

    Raises:
        ConfigError: keys that do not exist (with the nearest that does) or values out of range, all of them at once.
    """
    problems = [problem for key, value in section.items() if (problem := _problem(str(key), value))]
    if section.get("num_workers", 0) != 0 and section.get("loader", "tensor") != "torchvision":
        problems.append("data.num_workers: only `loader: torchvision` has workers; the tensor loader needs none.")
    if problems:
        raise ConfigError([Problem(problem) for problem in problems])
    return DataOptions(**section)


def _one_of(*allowed: str) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if value in allowed:
            return None
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"is one of {', '.join(allowed)}, not {value!r}.{hint}"

    return check


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else f"is true or false, not {value!r}."


def _count(value: object) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if good else f"is a whole number from 0 on, not {value!r}."


def _share(value: object) -> str | None:
    good = value is None or (isinstance(value, float) and 0.0 < value < 1.0)
    return None if good else f"is a number between 0 and 1, both left out, such as 0.8; not {value!r}."


def _fake(value: object) -> str | None:
    sizes = value.values() if isinstance(value, Mapping) and set(value) == {"train", "test"} else ()
    good = isinstance(value, bool) or (sizes and all(_count(size) is None and size for size in sizes))
    return None if good else f"is true, false, or {{train: n, test: n}} with whole numbers from 1 on, not {value!r}."


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "name": _one_of("auto", "mnist", "digits"),
    "loader": _one_of("tensor", "torchvision"),
    "normalize": _one_of("standard", "unit"),
    "train_ratio": _share,
    "split_seed": _count,
    "one_hot": _flag,
    "drop_last": _flag,
    "dtype": _one_of("float32", "bfloat16"),
    "num_workers": _count,
    "fake": _fake,
}
assert list(_CHECKS) == [field.name for field in fields(DataOptions)]


def _problem(key: str, value: object) -> str | None:
    check = _CHECKS.get(key)
    if check is None:
        near = difflib.get_close_matches(key, _CHECKS, n=1)
        hint = f" Did you mean 'data.{near[0]}'?" if near else ""
        return f"data.{key}: there is no such option.{hint} Known: {', '.join(_CHECKS)}."
    fault = check(value)
    return fault and f"data.{key} {fault}"
