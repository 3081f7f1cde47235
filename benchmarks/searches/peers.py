"""The peers' schedulers and pruners, called directly: no cluster, no storage but memory, no sampling of any value."""

from __future__ import annotations

import logging

from searches.clock import Method


class RayAsha(Method):
    """Ray Tune's AsyncHyperBandScheduler (ASHAScheduler), with trials that are a name and nothing else."""

    def __init__(self, trials: int, name: str, full: int, divisor: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        self._scheduler = AsyncHyperBandScheduler(
            time_attr="units", metric="loss", mode="min", max_t=full, grace_period=1, reduction_factor=divisor
        )
        self._full = full
        self._left = trials
        self._trials: dict[int, _RayTrial] = {}

    def next(self) -> int | None:
        if not self._left:
            return None
        self._left -= 1
        number = len(self._trials) + 1
        self._trials[number] = trial = _RayTrial(number)
        self._scheduler.on_trial_add(None, trial)
        return number

    def report(self, trial: int, units: int, loss: float) -> bool:
        known, result = self._trials[trial], {"units": units, "loss": loss}
        goes_on = self._scheduler.on_trial_result(None, known, result) == "CONTINUE"
        if not goes_on or units >= self._full:
            self._scheduler.on_trial_complete(None, known, result)
        return goes_on


class _RayTrial:
    __slots__ = ("trial_id",)

    def __init__(self, number: int) -> None:
        self.trial_id = f"{number:08d}"


class OptunaPruner(Method):
    """Optuna's SuccessiveHalvingPruner or HyperbandPruner, by ask, report, should_prune and tell."""

    def __init__(self, kind: str, trials: int, name: str, full: int, divisor: int) -> None:
        import optuna

        optuna.logging.set_verbosity(logging.ERROR)
        self._pruned = optuna.trial.TrialState.PRUNED
        if kind == "optuna hyperband":
            pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=full, reduction_factor=divisor)
        else:
            pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=divisor)
        # The name decides on Hyperband's brackets.
        self._study = optuna.create_study(
            study_name=name, direction="minimize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
        )
        self._full = full
        self._left = trials
        self._trials: dict[int, optuna.Trial] = {}

    def next(self) -> int | None:
        if not self._left:
            return None
        self._left -= 1
        trial = self._study.ask()
        self._trials[trial.number + 1] = trial
        return trial.number + 1

    def report(self, trial: int, units: int, loss: float) -> bool:
        known = self._trials[trial]
        known.report(loss, units)
        if units >= self._full:
            self._study.tell(known, loss)
            return False
        if known.should_prune():
            self._study.tell(known, state=self._pruned)
            return False
        return True


PEERS = ("ray asha", "optuna sha", "optuna hyperband")


def peer(kind: str, trials: int, name: str, full: int, divisor: int) -> Method:
    """The peer of that name. `name` tells one search from another."""
    if kind == "ray asha":
        return RayAsha(trials, name, full, divisor)
    return OptunaPruner(kind, trials, name, full, divisor)


def versions() -> str:
    import optuna
    import ray

    return f"Ray Tune {ray.__version__}, Optuna {optuna.__version__}"
