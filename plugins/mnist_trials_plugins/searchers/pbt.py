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
from dataclasses import asdict, dataclass
from fractions import Fraction
from random import Random
from typing import Any, Literal, final

from typing_extensions import override

from mnist_trials.plugin import (
    Action,
    Bracket,
    Create,
    Judgement,
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


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The `searcher` section, as this searcher reads it."""

    smaller_is_better: bool
    population: int
    rounds: int
    length: int  # of a round, in the searcher's unit
    places: int  # how many trials train at once, at most
    replaced: int  # how many trials give way at each round
    resample_probability: float
    perturb_factor: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """The settings of a `searcher` section."""
        (length,) = config["length_per_round"].values()
        population = config["population_size"]
        truncate = config.get("replace_function", {}).get("truncate_fraction", 0.2)
        explore_function = config.get("explore_function", {})
        return cls(
            smaller_is_better=config.get("smaller_is_better", True),
            population=population,
            rounds=config["num_rounds"],
            length=length,
            places=min(config.get("max_concurrent_trials", 16) or population, population),
            # As written: 0.29 of 100 is 29, although the float is a little less.
            replaced=max(int(Fraction(str(truncate)) * population), 1) if truncate > 0 else 0,
            resample_probability=explore_function.get("resample_probability", 0.2),
            perturb_factor=explore_function.get("perturb_factor", 0.2),
        )


@final
@dataclass(slots=True, eq=False)
class _Member:
    """One place in the population, and the trial that has it."""

    until: int  # where its trial reports next
    first_round: int = 0  # of its trial
    source: int | None = None  # the trial that its trial is a copy of
    base: dict[str, Any] | None = None  # that one's hyperparameters
    rank: int = 0  # that one's rank then
    trial: int | None = None  # None: it is still to be made
    state: Literal["queued", "training", "reported", "leaving", "lost"] = "queued"
    metric: float | None = None
    order: int = 0  # of its report; the earlier is the better where metrics are equal


@final
class PbtSearcher(Searcher):
    """See the module."""

    def __init__(self, settings: Settings, hyperparameters: Mapping[str, Any]) -> None:
        self._settings = settings
        self._hyperparameters = hyperparameters
        self._members = [_Member(settings.length) for _ in range(settings.population)]
        self._queue = list(range(settings.population))  # members that are to train, in this order
        self._round = 0
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
        member = self._member(trial_id)
        if self._over or member is None or member.state != "training" or units < member.until:
            return []
        self._reports += 1
        member.metric, member.order = metric, self._reports
        if self._is_last_round():
            member.state = "leaving"
            return self._go_on(ctx)
        member.state, member.until = "reported", units + self._settings.length
        return _in_place([Pause(trial_id), *self._go_on(ctx)], trial_id)

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        return self._lost(ctx, trial_id)

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        member = self._member(trial_id)
        if member is None or self._over or reason != "invalid_hp" or member.until > self._settings.length:
            return self._lost(ctx, trial_id)
        self._invalid += 1
        if self._invalid > (most := self._planned()):
            return self._shut_down(f"more than {most} trials had invalid hyperparameters")
        member.trial, member.state = None, "queued"
        self._queue.insert(0, self._members.index(member))
        return self._fill(ctx)

    @override
    def validate_at(self, trial_id: int) -> Sequence[int]:
        member = self._member(trial_id)
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
        return [
            Bracket(rungs=rungs, trials=(self._planned(), *[through] * (s.rounds - 1)), max_concurrent_trials=s.places)
        ]

    @override
    def progress(self) -> float:
        if self._over:
            return 1.0
        done = sum(member.state in ("reported", "leaving", "lost") for member in self._members)
        return (self._round + done / len(self._members)) / self._settings.rounds

    @override
    def snapshot(self) -> dict[str, Any]:
        return {
            "members": [asdict(member) for member in self._members],
            "queue": list(self._queue),
            "round": self._round,
            "made": self._made,
            "reports": self._reports,
            "invalid": self._invalid,
            "over": self._over,
        }

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self._members = [_Member(**member) for member in snapshot["members"]]
        self._queue = list(snapshot["queue"])
        self._round = snapshot["round"]
        self._made = snapshot["made"]
        self._reports = snapshot["reports"]
        self._invalid = snapshot["invalid"]
        self._over = snapshot["over"]

    def _planned(self) -> int:
        return self._settings.population + self._settings.replaced * (self._settings.rounds - 1)

    def _is_last_round(self) -> bool:
        return self._round == self._settings.rounds - 1

    def _member(self, trial_id: int) -> _Member | None:
        return next((member for member in self._members if member.trial == trial_id), None)

    def _lost(self, ctx: SearcherContext, trial_id: int) -> list[Action]:
        """Trial `trial_id` will train no more."""
        member = self._member(trial_id)
        if member is None or self._over or member.state == "lost":
            return []
        member.state = "lost"
        return self._go_on(ctx)

    def _go_on(self, ctx: SearcherContext) -> list[Action]:
        """Begin the next round if this one is over, and give free places to those that wait for one."""
        if any(member.state in ("queued", "training") for member in self._members):
            return self._fill(ctx)
        if self._is_last_round():
            return self._shut_down()
        alive = self._ranked()
        if not alive:
            return self._shut_down(f"no trial of the population came beyond rung {self._round}")
        return [*self._replace(ctx, alive), *self._fill(ctx)]

    def _ranked(self) -> list[_Member]:
        """Those that reported and can go on, the best first."""

        def key(member: _Member) -> tuple[bool, float, int]:
            metric = member.metric if member.metric is not None else 0.0
            return member.metric is None, metric if self._settings.smaller_is_better else -metric, member.order

        return sorted((member for member in self._members if member.state == "reported"), key=key)

    def _replace(self, ctx: SearcherContext, alive: list[_Member]) -> list[Action]:
        """Stop the worst, queue copies of the best in their places and in those of the lost, then all that go on."""
        lost = len(self._members) - len(alive)
        kept = alive[: len(alive) - max(self._settings.replaced - lost, 0)]
        stops: list[Action] = []
        for rank, member in enumerate(alive[len(kept) :], len(kept) + 1):
            assert member.trial is not None
            stops.append(Stop(member.trial, self._judgement(rank, len(alive), kept)))
        sources = kept[: max(self._settings.replaced, 1)]
        staying = {id(member) for member in kept}
        copied = [number for number, member in enumerate(self._members) if id(member) not in staying]
        self._round += 1
        for number in copied:
            dice = Random(f"{ctx.experiment_seed}/round {self._round}/member {number}")  # noqa: S311
            rank = int(dice.random() * len(sources))
            source = sources[rank]
            self._members[number] = _Member(
                until=self._settings.length,
                first_round=self._round,
                source=source.trial,
                base=self._hparams(ctx, source),
                rank=rank + 1,
            )
        for member in kept:
            member.state = "queued"
        # The copies first: a source that goes on is validated at its next point, and its weights are then others.
        self._queue = [*copied, *(self._members.index(member) for member in kept)]
        return stops

    def _judgement(self, rank: int, of: int, kept: list[_Member]) -> Judgement:
        units = (self._round + 1) * self._settings.length
        return Judgement(
            bracket=0, rung=self._round, units=units, rank=rank, of=of, kept=len(kept), threshold=kept[-1].metric
        )

    def _fill(self, ctx: SearcherContext) -> list[Action]:
        """Let those that wait train, as far as there are places."""
        taken = sum(member.state in ("training", "leaving") for member in self._members)
        starting = self._queue[: self._settings.places - taken]
        self._queue = self._queue[len(starting) :]
        return [self._start(ctx, self._members[number]) for number in starting]

    def _start(self, ctx: SearcherContext, member: _Member) -> Action:
        member.state = "training"
        if member.trial is not None:
            return Resume(member.trial, member.until)
        self._made += 1
        member.trial = self._made
        if member.source is None:
            return Create(until=member.until)
        why = f"a copy of trial {member.source}, which had rank {member.rank} at rung {self._round - 1}"
        return Create(self._hparams(ctx, member), until=member.until, source=member.source, why=why)

    def _hparams(self, ctx: SearcherContext, member: _Member) -> dict[str, Any]:
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
        self._queue = []
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
