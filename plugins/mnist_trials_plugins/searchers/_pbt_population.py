"""The population of population based training: who has which place in it, and who gives way to whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from random import Random
from typing import Any, Literal, final

from mnist_trials.plugin import Judgement, Stop


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The `searcher` section, as `pbt` reads it."""

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

    @property
    def trials(self) -> int:
        """How many are made in all, if none has invalid hyperparameters."""
        return self.population + self.replaced * (self.rounds - 1)


@final
@dataclass(slots=True, eq=False)
class Member:
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
class Population:
    """All members, and the round that they are in."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._members = [Member(settings.length) for _ in range(settings.population)]
        self._queue = list(range(settings.population))  # members that are to train, in this order
        self.round = 0

    @property
    def is_in_last_round(self) -> bool:
        """Whether nobody will be judged any more."""
        return self.round == self._settings.rounds - 1

    @property
    def is_busy(self) -> bool:
        """Whether a member has yet to end this round."""
        return any(member.state in ("queued", "training") for member in self._members)

    @property
    def progress(self) -> float:
        """The share of the rounds that is done, 0 to 1."""
        done = sum(member.state in ("reported", "leaving", "lost") for member in self._members)
        return (self.round + done / len(self._members)) / self._settings.rounds

    def of(self, trial_id: int) -> Member | None:
        """The member whose trial it is; None: it has lost its place."""
        return next((member for member in self._members if member.trial == trial_id), None)

    def renew(self, member: Member) -> None:
        """Have the member get another trial, before all that wait."""
        member.trial, member.state = None, "queued"
        self._queue.insert(0, self._members.index(member))

    def next_to_train(self) -> list[Member]:
        """Those that wait, as many as there are free places; they wait no longer."""
        taken = sum(member.state in ("training", "leaving") for member in self._members)
        starting = self._queue[: self._settings.places - taken]
        self._queue = self._queue[len(starting) :]
        return [self._members[number] for number in starting]

    def ranked(self) -> list[Member]:
        """Those that reported and can go on, the best first."""

        def key(member: Member) -> tuple[bool, float, int]:
            metric = member.metric if member.metric is not None else 0.0
            return member.metric is None, metric if self._settings.smaller_is_better else -metric, member.order

        return sorted((member for member in self._members if member.state == "reported"), key=key)

    def begin_round(
        self, alive: list[Member], experiment_seed: int, hparams: Callable[[Member], dict[str, Any]]
    ) -> list[Stop]:
        """Stop the worst, queue copies of the best in their places and in those of the lost, then all that go on.

        `alive` are those that are `ranked`, one at least; `hparams` tells the hyperparameters of a member's trial.
        """
        lost = len(self._members) - len(alive)
        kept = alive[: len(alive) - max(self._settings.replaced - lost, 0)]
        stops = [
            self._stop(member, rank, len(alive), kept) for rank, member in enumerate(alive[len(kept) :], len(kept) + 1)
        ]
        sources = kept[: max(self._settings.replaced, 1)]
        staying = {id(member) for member in kept}
        copied = [number for number, member in enumerate(self._members) if id(member) not in staying]
        self.round += 1
        for number in copied:
            dice = Random(f"{experiment_seed}/round {self.round}/member {number}")  # noqa: S311
            rank = int(dice.random() * len(sources))
            self._members[number] = Member(
                until=self._settings.length,
                first_round=self.round,
                source=sources[rank].trial,
                base=hparams(sources[rank]),
                rank=rank + 1,
            )
        for member in kept:
            member.state = "queued"
        # The copies first: a source that goes on is validated at its next point, and its weights are then others.
        self._queue = [*copied, *(self._members.index(member) for member in kept)]
        return stops

    def snapshot(self) -> dict[str, Any]:
        """As strict JSON."""
        members = [asdict(member) for member in self._members]
        return {"members": members, "queue": list(self._queue), "round": self.round}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` returned."""
        self._members = [Member(**member) for member in snapshot["members"]]
        self._queue = list(snapshot["queue"])
        self.round = snapshot["round"]

    def _stop(self, member: Member, rank: int, of: int, kept: list[Member]) -> Stop:
        assert member.trial is not None
        units = (self.round + 1) * self._settings.length
        why = Judgement(
            bracket=0, rung=self.round, units=units, rank=rank, of=of, kept=len(kept), threshold=kept[-1].metric
        )
        return Stop(member.trial, why)
