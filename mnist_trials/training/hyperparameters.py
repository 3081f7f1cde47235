"""A trial's hyperparameters: a dict whose missing keys explain themselves."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, final

from typing_extensions import override

from mnist_trials.errors import TrialError


@final
class MissingHyperparameter(TrialError, KeyError):
    """A trial asked for a hyperparameter that it was not given."""

    @override
    def __str__(self) -> str:  # KeyError would show the text in quotes
        return str(self.args[0])


@final
class Hyperparameters(dict[str, Any]):
    """A plain dict, nested maps included, but that `hparams["absent"]` says what there is.

    Raises:
        MissingHyperparameter: on a key that is not there; the text names those that are, and the nearest.
    """

    __slots__ = ("_prefix",)

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._prefix = prefix
        super().__init__({name: _nested(value, f"{prefix}{name}.") for name, value in values.items()})

    @override
    def __reduce__(self) -> tuple[type[Hyperparameters], tuple[dict[str, Any], str]]:
        return (Hyperparameters, (dict(self), self._prefix))

    def __missing__(self, name: str) -> Any:
        near = difflib.get_close_matches(str(name), self, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        given = ", ".join(sorted(self)) or "none"
        raise MissingHyperparameter(
            f"The trial asks for the hyperparameter '{self._prefix}{name}', which it was not given.{hint} "
            f"Given: {given}. Add it under `hyperparameters`, or use hparams.get({name!r}, default)."
        )


def _nested(value: Any, prefix: str) -> Any:
    return Hyperparameters(value, prefix) if isinstance(value, Mapping) else value
