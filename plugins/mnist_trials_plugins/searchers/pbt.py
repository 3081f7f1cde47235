"""`pbt`: population based training. Every trial of a population trains on, while the worst take over from the best.

    searcher:
      name: pbt
      metric: validation_loss
      population_size: 6
      num_rounds: 3
      length_per_round: {epochs: 1}
      replace_function: {truncate_fraction: 0.34}
      explore_function: {resample_probability: 0.2, perturb_factor: 0.2}

All trials train for one round, are validated and pause. When the last one has come so far, the worst
`truncate_fraction` of the population (at least one trial, if it is above 0) is stopped. Each of them gives way to a new
trial that starts from the weights of one of as many of the best, drawn at random, with that one's hyperparameters
changed: each is drawn anew with `resample_probability`, else multiplied by 1 - or 1 + `perturb_factor`. Then the next
round begins. Nobody is judged after the last one.

So there are population_size + (num_rounds - 1) * (number that is stopped at each round) trials. A copy counts its own
units from 0, and trains for the rounds that remain.

A trial that fails or ends before its round is over is one of those that give way; one whose hyperparameters are invalid
before its first report is made anew at once.

Jaderberg et al., "Population Based Training of Neural Networks", 2017 (arXiv:1711.09846): truncation selection, perturb
and resample. Different here: rounds are in step, and the weights are copied without the state of the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from typing_extensions import override

from mnist_trials.plugin import (
    Action,
    Bracket,
    Create,
    Pause,
    PluginRecord,
    Resume,
    Searcher,
    SearcherContext,
    Shutdown,
    Stop,
    hookimpl,
)
from mnist_trials_plugins.searchers._pbt_explore import explore
from mnist_trials_plugins.searchers._pbt_population import Member, Population, Settings


@final
class PbtSearcher(Searcher):
    """See the module."""

    def __init__(self, settings: Settings, hyperparameters: Mapping[str, Any]) -> None:
        self._settings = settings
        self._hyperparameters = hyperparameters
        self._population = Population(settings)
        self._made = 0
        self._reports = 0
        self._invalid = 0
        self._over = False

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return self._fill(ctx)

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        member = self._population.of(trial_id)
        if self._over or member is None or member.state != "training" or units < member.until:
            return []
        self._reports += 1
        member.metric, member.order = metric, self._reports
        if self._population.is_in_last_round:
            member.state = "leaving"
            return self._go_on(ctx)
        member.state, member.until = "reported", units + self._settings.length
        return _in_place([Pause(trial_id), *self._go_on(ctx)], trial_id)

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        return self._lost(ctx, trial_id)

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        member = self._population.of(trial_id)
        if member is None or self._over or reason != "invalid_hp" or member.until > self._settings.length:
            return self._lost(ctx, trial_id)
        self._invalid += 1
        if self._invalid > (most := self._settings.trials):
            return self._shut_down(f"more than {most} trials had invalid hyperparameters")
        self._population.renew(member)
        return self._fill(ctx)

    @override
    def validate_at(self, trial_id: int) -> Sequence[int]:
        member = self._population.of(trial_id)
        if member is None:
            return ()
        length = self._settings.length
        return tuple(range(length, (self._settings.rounds - member.first_round) * length + 1, length))

    @override
    def brackets(self) -> Sequence[Bracket]:
        """As if it were always the copies that give way. What is trained in all does not depend on who does."""
        s = self._settings
        rungs = tuple(s.length * (number + 1) for number in range(s.rounds))
        through = s.population - (s.replaced if s.rounds > 1 else 0)
        return [Bracket(rungs=rungs, trials=(s.trials, *[through] * (s.rounds - 1)), max_concurrent_trials=s.places)]

    @override
    def progress(self) -> float:
        return 1.0 if self._over else self._population.progress

    @override
    def snapshot(self) -> dict[str, Any]:
        return {
            **self._population.snapshot(),
            "made": self._made,
            "reports": self._reports,
            "invalid": self._invalid,
            "over": self._over,
        }

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._population.restore(snapshot)
        self._made = snapshot["made"]
        self._reports = snapshot["reports"]
        self._invalid = snapshot["invalid"]
        self._over = snapshot["over"]

    def _lost(self, ctx: SearcherContext, trial_id: int) -> list[Action]:
        """Trial `trial_id` will train no more."""
        member = self._population.of(trial_id)
        if member is None or self._over or member.state == "lost":
            return []
        member.state = "lost"
        return self._go_on(ctx)

    def _go_on(self, ctx: SearcherContext) -> list[Action]:
        """Begin the next round if this one is over, and give free places to those that wait for one."""
        population = self._population
        if population.is_busy:
            return self._fill(ctx)
        if population.is_in_last_round:
            return self._shut_down()
        alive = population.ranked()
        if not alive:
            return self._shut_down(f"no trial of the population came beyond rung {population.round}")
        stops = population.begin_round(alive, ctx.experiment_seed, lambda member: self._hparams(ctx, member))
        return [*stops, *self._fill(ctx)]

    def _fill(self, ctx: SearcherContext) -> list[Action]:
        """Let those that wait train, as far as there are places."""
        return [self._start(ctx, member) for member in self._population.next_to_train()]

    def _start(self, ctx: SearcherContext, member: Member) -> Action:
        member.state = "training"
        if member.trial is not None:
            return Resume(member.trial, member.until)
        self._made += 1
        member.trial = self._made
        if member.source is None:
            return Create(until=member.until)
        why = f"a copy of trial {member.source}, which had rank {member.rank} at rung {self._population.round - 1}"
        return Create(self._hparams(ctx, member), until=member.until, source=member.source, why=why)

    def _hparams(self, ctx: SearcherContext, member: Member) -> dict[str, Any]:
        """The hyperparameters of the member's trial."""
        assert member.trial is not None
        fresh = ctx.sample(member.trial)
        if member.base is None:
            return fresh
        return explore(
            member.base,
            self._hyperparameters,
            fresh,
            key=f"{ctx.experiment_seed}/trial {member.trial}",
            resample_probability=self._settings.resample_probability,
            perturb_factor=self._settings.perturb_factor,
        )

    def _shut_down(self, why: str = "") -> list[Action]:
        self._over = True
        return [Shutdown(why)]


def _in_place(actions: list[Action], trial_id: int) -> list[Action]:
    """Its `Pause` directly before its `Resume`, so that it keeps its slots; none where it is stopped anyway."""
    pause, *others = actions
    for number, action in enumerate(others):
        if isinstance(action, Stop | Resume) and action.trial_id == trial_id:
            return others if isinstance(action, Stop) else [*others[:number], pause, *others[number:]]
    return actions


def _make(config: Mapping[str, Any], hyperparameters: Mapping[str, Any]) -> Searcher:
    return PbtSearcher(Settings.of(config), hyperparameters)


@hookimpl
def mnist_trials_searchers() -> Iterable[PluginRecord[Searcher]]:
    """The searcher `pbt`."""
    return [PluginRecord("pbt", "population based training: the worst go on from the weights of the best", _make)]
