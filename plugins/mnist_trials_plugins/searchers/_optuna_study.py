"""An Optuna study that can be written down whole. Imports Optuna: imported only where a search uses it.

A sampler is made anew for every question, with a seed of its own. So nothing is remembered but the study: its trials,
and what samplers note at them and at the study. Optuna's numbers of trials are ours less 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from typing_extensions import override

from mnist_trials_plugins.searchers._optuna_sampler import SamplerChoice, quiet
from mnist_trials_plugins.searchers._optuna_space import Space, Suggested

_NAME: Final = "search"


@final
class _Study(optuna.Study):
    @override
    def stop(self) -> None:
        """Said by samplers when they have been everywhere: the searcher knows it, and there is no loop to stop."""


@final
class Study:
    """In memory only: no file, no database."""

    def __init__(self, choice: SamplerChoice, space: Space, *, smaller_is_better: bool, experiment_seed: int) -> None:
        self._choice = choice
        self._seed = experiment_seed
        self._worst = float("inf") if smaller_is_better else -float("inf")
        self._distributions = {path: _distribution(leaf) for path, leaf in space.ranges.items()}
        self._storage = optuna.storages.InMemoryStorage()
        direction = optuna.study.StudyDirection.MINIMIZE if smaller_is_better else optuna.study.StudyDirection.MAXIMIZE
        with quiet():
            self._id = self._storage.create_new_study([direction], _NAME)
            self._study = _Study(_NAME, self._storage)

    def ask(self, trial_id: int) -> Suggested:
        """What trial `trial_id`, the next one, is to try."""
        with quiet():
            self._study.sampler = self._sampler("ask", trial_id)
            return self._study.ask(self._distributions).params

    def tell(self, trial_id: int, value: float | None, *, invalid: bool = False) -> None:
        """How trial `trial_id` ended: its `value`, None for the worst, or nothing at all if it was `invalid`."""
        with quiet():
            self._study.sampler = self._sampler("tell", trial_id)
            if invalid:
                self._study.tell(trial_id - 1, state=TrialState.FAIL)
            else:
                self._study.tell(trial_id - 1, self._worst if value is None else value)

    def dump(self) -> dict[str, Any]:
        """All of it as strict JSON."""
        trials = self._storage.get_all_trials(self._id, deepcopy=False)
        noted: dict[str, Any] = json.loads(json.dumps(self._storage.get_study_system_attrs(self._id)))
        return {"trials": [self._dumped(trial) for trial in trials], "noted": noted}

    def load(self, document: Mapping[str, Any]) -> None:
        """Take over what `dump` gave, in a new study."""
        with quiet():
            for trial in document["trials"]:
                self._study.add_trial(self._loaded(trial))
            for key, value in document["noted"].items():
                self._storage.set_study_system_attr(self._id, key, value)

    def _sampler(self, what: str, trial_id: int) -> optuna.samplers.BaseSampler:
        values = {
            path: list(range(len(distribution.choices)))
            for path, distribution in self._distributions.items()
            if isinstance(distribution, CategoricalDistribution)
        }
        return self._choice.make(values, _seed(self._seed), _seed(self._seed, what, trial_id))

    def _dumped(self, trial: FrozenTrial) -> list[Any]:
        value = None if trial.value is None or trial.value == self._worst else trial.value
        params = [trial.params[path] for path in self._distributions]
        noted: dict[str, Any] = json.loads(json.dumps(trial.system_attrs))
        return [trial.state.name, value, params, noted]

    def _loaded(self, document: list[Any]) -> FrozenTrial:
        state, value, params, noted = document
        return create_trial(
            state=TrialState[state],
            value=self._worst if state == "COMPLETE" and value is None else value,
            params=dict(zip(self._distributions, params, strict=True)),
            distributions=dict(self._distributions),
            system_attrs=noted,
        )


def _distribution(leaf: Mapping[str, Any]) -> BaseDistribution:
    match leaf["type"]:
        case "categorical":
            return CategoricalDistribution(tuple(range(len(leaf["vals"]))))
        case "int":
            return IntDistribution(leaf["minval"], leaf["maxval"])
        case _:
            return FloatDistribution(leaf["minval"], leaf["maxval"])


def _seed(*what: Any) -> int:
    """32 bits."""
    return int.from_bytes(hashlib.sha256(json.dumps(what).encode()).digest()[:4])
