"""`optuna`: hyperparameters proposed by any of Optuna's samplers, all trials trained to the full length.

    searcher:
      name: optuna
      metric: validation_loss
      max_trials: 30
      max_concurrent_trials: 4
      sampler: TPESampler
      sampler_options: {multivariate: true, n_startup_trials: 8}

The sampler hears of a trial when it has ended: its best validation. One that failed, or never had a finite metric,
counts as the worst there can be (an infinite value). Of one with invalid hyperparameters the sampler learns nothing; it
is replaced, at most `max_trials` times. Trials that still run are known to the sampler, without a value.

`int` and `double` are uniform ranges, `log` is a uniform range of exponents, a `categorical` value is known to the
sampler by its place, nested names by their dotted path. `GridSampler` and `BruteForceSampler` take the values that
`grid` would take, all of an `int` without `count`, and end when there are no more.

Each question is put to a new sampler with a seed of (experiment seed, trial), in a study that is kept in memory and in
the snapshot. So a search that was cut off goes on to the same proposals, with the same version of Optuna.

Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019 (arXiv:1907.10902); of the
default sampler: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from mnist_trials.plugin import Action, Bracket, Create, PluginRecord, Searcher, SearcherContext, hookimpl
from mnist_trials_plugins.searchers._full_length import FullLengthPlan, FullLengthSearcher
from mnist_trials_plugins.searchers._halving import full_length
from mnist_trials_plugins.searchers._optuna_space import Space

if TYPE_CHECKING:
    from mnist_trials_plugins.searchers._optuna_study import Study


@final
class OptunaSearcher(Searcher):
    """Makes trials as `random` does; the study says which."""

    def __init__(self, config: Mapping[str, Any], space: Space, open_study: Callable[[int], Study]) -> None:
        self._space = space
        self._smaller_is_better: bool = config.get("smaller_is_better", True)
        self._open_study = open_study  # by experiment seed
        self._study: Study | None = None
        self._kept: Mapping[str, Any] | None = None  # of a study that is still to be opened
        self._best: dict[int, float | None] = {}  # of each trial that has not ended
        trials = config["max_trials"] if space.points is None else min(config["max_trials"], space.points)
        self._trials = FullLengthSearcher(
            FullLengthPlan(
                trials=trials,
                most=space.points,
                places=config.get("max_concurrent_trials", 16) or trials,
                length=full_length(config),
                create=self._create,
                replaces_invalid=True,
            )
        )

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        self._open(ctx)
        return self._trials.initial_trials(ctx)

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        if metric is not None and trial_id in self._best:
            best = self._best[trial_id]
            better = min if self._smaller_is_better else max
            self._best[trial_id] = metric if best is None else better(best, metric)
        return self._trials.validation_completed(ctx, trial_id, units, metric)

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        if trial_id in self._best:
            self._open(ctx).tell(trial_id, self._best.pop(trial_id))
        return self._trials.trial_exited(ctx, trial_id)

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        if trial_id in self._best:
            del self._best[trial_id]
            self._open(ctx).tell(trial_id, None, invalid=reason == "invalid_hp")
        return self._trials.trial_failed(ctx, trial_id, reason)

    @override
    def brackets(self) -> Sequence[Bracket] | None:
        return self._trials.brackets()

    @override
    def progress(self) -> float:
        return self._trials.progress()

    @override
    def snapshot(self) -> dict[str, Any]:
        return {
            "trials": self._trials.snapshot(),
            "best": [list(item) for item in self._best.items()],
            "study": dict(self._kept) if self._kept else self._study.dump() if self._study else None,
        }

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._trials.restore(snapshot["trials"])
        self._best = dict(snapshot["best"])
        self._study, self._kept = None, snapshot["study"]

    def _open(self, ctx: SearcherContext) -> Study:
        if self._study is None:
            self._study = self._open_study(ctx.experiment_seed)
            if self._kept:
                self._study.load(self._kept)
                self._kept = None
        return self._study

    def _create(self, trial_id: int) -> Create:
        assert self._study is not None
        self._best[trial_id] = None
        return Create(self._space.hparams(self._study.ask(trial_id)))


def _make(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    from mnist_trials_plugins.searchers._optuna_sampler import SamplerChoice

    choice = SamplerChoice(config.get("sampler", "TPESampler"), config.get("sampler_options", {}))
    space = Space(hyperparameters, listed=choice.goes_through_all_points)

    def open_study(experiment_seed: int) -> Study:
        from mnist_trials_plugins.searchers._optuna_study import Study

        smaller_is_better = config.get("smaller_is_better", True)
        return Study(choice, space, smaller_is_better=smaller_is_better, experiment_seed=experiment_seed)

    return OptunaSearcher(config, space, open_study)


def _available() -> str | None:
    if importlib.util.find_spec("optuna") is None:
        return "the package optuna is not installed; install it with: pip install 'mnist-trials[optuna]'"
    return None


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    """The searcher `optuna`."""
    return [PluginRecord("optuna", "hyperparameters proposed by a sampler of Optuna's", _make, _available)]
