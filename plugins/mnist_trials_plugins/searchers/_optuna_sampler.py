"""Optuna's samplers by name. Imports Optuna: imported only where a search uses it."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

import optuna
from optuna.samplers import BaseSampler

from mnist_trials.errors import PluginError
from mnist_trials.plugin import refuse_unknown

_NEEDS: Final = {"CmaEsSampler": ("cmaes",), "GPSampler": ("scipy", "torch"), "QMCSampler": ("scipy",)}
_PLAIN: Final[dict[str, type]] = {"int": int, "float": float, "bool": bool, "str": str}
_ONE_ORDER: Final = ("GridSampler", "QMCSampler")  # their seed shuffles the whole search, not a trial


@final
class SamplerChoice:
    """One of Optuna's samplers, and what it is made with.

    Raises:
        PluginError: there is no sampler of that name, it needs a package that is not installed, or does not take these
            options.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        kinds = _kinds()
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise PluginError(
                f"Optuna {optuna.__version__} has no sampler '{name}' that a config can make.{hint} "
                f"Known: {', '.join(sorted(kinds))}."
            )
        self._name = name
        self._kind = kinds[name]
        self._options = dict(options)
        self._spoken = f"the Optuna sampler '{name}'"
        self._check_packages()
        self._check_options()
        self.make({}, 0, 0)

    @property
    def goes_through_all_points(self) -> bool:
        """Whether it proposes every point of a finite space once."""
        return self._name in ("BruteForceSampler", "GridSampler")

    def make(self, values: Mapping[str, list[int]], order_seed: int, seed: int) -> BaseSampler:
        """A new sampler for one trial. Seeds have 32 bits; `order_seed` is that of the search, `seed` the trial's.

        `values` are those of each range, by name, for `GridSampler`.
        """
        options: dict[str, Any] = {**self._options, "seed": order_seed if self._name in _ONE_ORDER else seed}
        parameters = _parameters(self._kind)
        if "search_space" in parameters:
            options["search_space"] = values
        if "independent_sampler" in parameters:
            options["independent_sampler"] = optuna.samplers.RandomSampler(seed=seed)
        try:
            with quiet():
                return self._kind(**options)
        except (TypeError, ValueError) as error:
            raise PluginError(f"T{self._spoken[1:]} cannot be made with {self._options}: {error}") from error

    def _check_packages(self) -> None:
        missing = [name for name in _NEEDS.get(self._name, ()) if importlib.util.find_spec(name) is None]
        if missing:
            raise PluginError(
                f"T{self._spoken[1:]} needs {' and '.join(missing)}, which is not installed; install it with: "
                "pip install 'mnist-trials[optuna]'"
            )

    def _check_options(self) -> None:
        kinds = {
            name: types
            for name, parameter in _parameters(self._kind).items()
            if not name.startswith("warn_") and name != "seed" and (types := _plain_types(parameter)) is not None
        }
        refuse_unknown(self._spoken, self._options, kinds)
        for name, value in self._options.items():
            if not isinstance(value, kinds[name]) or (isinstance(value, bool) and bool not in kinds[name]):
                meant = " or ".join(kind.__name__ for kind in kinds[name] if kind is not type(None))
                raise PluginError(f"'{name}' of {self._spoken} must be of type {meant}, not {value!r}.")


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna keeps its word on what is experimental, and on how a search goes, to itself."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _kinds() -> dict[str, type[BaseSampler]]:
    """The samplers that can be made from names and plain values."""
    kinds = {}
    for name in optuna.samplers.__all__:
        kind = getattr(optuna.samplers, name)
        if inspect.isclass(kind) and issubclass(kind, BaseSampler) and not inspect.isabstract(kind):
            needed = {key for key, value in _parameters(kind).items() if value.default is value.empty}
            if needed <= {"search_space"} and "seed" in _parameters(kind):
                kinds[name] = kind
    return kinds


def _parameters(kind: type[BaseSampler]) -> dict[str, inspect.Parameter]:
    return {
        name: value for name, value in inspect.signature(kind).parameters.items() if value.kind != value.VAR_KEYWORD
    }


def _plain_types(parameter: inspect.Parameter) -> tuple[type, ...] | None:
    """What an option takes, if that is numbers, texts and the like."""
    annotation = parameter.annotation
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    names = [name.strip() for name in written.split("|")]
    if any(name not in (*_PLAIN, "None") for name in names):
        return None
    types = [type(None) if name == "None" else _PLAIN[name] for name in names]
    return (*types, int) if float in types else tuple(types)
