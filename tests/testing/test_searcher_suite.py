"""The suite finds each way in which a searcher can break the rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.plugin import Action, Bracket, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop
from mnist_trials.testing import SearcherSuite
from mnist_trials.testing.made_up_search import Search, World


class Halving(Searcher):
    """Makes `count` trials; each is paused at its first validation, resumed once, and stopped if it got worse."""

    count = 4

    def __init__(self) -> None:
        self.first: dict[str, float | None] = {}
        self.over: list[int] = []

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return [Create() for _ in range(self.count)]

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        if trial_id in self.over:
            return []
        if str(trial_id) not in self.first:
            self.first[str(trial_id)] = metric
            return [Pause(trial_id), Resume(trial_id, 12)]
        before = self.first[str(trial_id)]
        if metric is None or (before is not None and metric > before):
            self.over.append(trial_id)
            return [Stop(trial_id)]
        return []

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        self.over = sorted({*self.over, trial_id})
        self.first[f"{trial_id} ended"] = None
        ended = sum(name.endswith("ended") for name in self.first)
        return [Shutdown()] if ended == self.count else []

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        return self.trial_exited(ctx, trial_id)

    @override
    def progress(self) -> float:
        return sum(name.endswith("ended") for name in self.first) / self.count

    @override
    def snapshot(self) -> dict[str, Any]:
        return {"first": dict(self.first), "over": list(self.over)}

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.first = dict(snapshot["first"])
        self.over = list(snapshot["over"])


class Climbing(Searcher):
    """Makes `count` trials that ask at 2 and at 5 units. The better half so far goes on, the others rest for good. When
    none is left, a copy of the best is made, and trains to the end.
    """

    count = 6
    rungs = (2, 5, 12)

    def __init__(self) -> None:
        self.reports: list[list[Any]] = []  # trial, units, metric
        self.over: list[int] = []

    @override
    def initial_trials(self, ctx: SearcherContext) -> Sequence[Action]:
        return [Create(until=self.rungs[0]) for _ in range(self.count)]

    @override
    def validation_completed(
        self, ctx: SearcherContext, trial_id: int, units: int, metric: float | None
    ) -> Sequence[Action]:
        if trial_id in self.over:
            return []
        self.reports.append([trial_id, units, metric])
        if units not in self.rungs[:2] or trial_id > self.count:
            return []
        here = sorted(worth(metric) for _, at, metric in self.reports if at == units)
        if worth(metric) <= here[len(here) // 2]:
            return [Pause(trial_id), Resume(trial_id, self.rungs[self.rungs.index(units) + 1])]
        self.over.append(trial_id)
        return [Pause(trial_id), *self._end()]

    @override
    def trial_exited(self, ctx: SearcherContext, trial_id: int) -> Sequence[Action]:
        self.over.append(trial_id)
        return [Shutdown()] if trial_id > self.count else self._end()

    @override
    def trial_failed(self, ctx: SearcherContext, trial_id: int, reason: str) -> Sequence[Action]:
        return self.trial_exited(ctx, trial_id)

    def _end(self) -> Sequence[Action]:
        if len(self.over) < self.count:
            return []
        if not self.reports:
            return [Shutdown()]
        best = min(self.reports, key=lambda report: worth(report[2]))
        return [Create(source=best[0])]

    @override
    def validate_at(self, trial_id: int) -> Sequence[int]:
        return self.rungs

    @override
    def progress(self) -> float:
        return len(self.over) / (self.count + 1)

    @override
    def snapshot(self) -> dict[str, Any]:
        return {"reports": [list(report) for report in self.reports], "over": list(self.over)}

    @override
    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.reports = [list(report) for report in snapshot["reports"]]
        self.over = list(snapshot["over"])


def worth(metric: float | None) -> float:
    return float("inf") if metric is None else metric


class TestHalving(SearcherSuite):
    plugin = "halving"

    @override
    def make(self) -> Searcher:
        return Halving()


class TestClimbing(SearcherSuite):
    plugin = "climbing"

    @override
    def make(self) -> Searcher:
        return Climbing()


def broken(base: type[Searcher] = Halving, **methods: Callable[..., Any]) -> Callable[[], Searcher]:
    return type("Broken", (base,), methods)


WORLD = World(length=12, period=3, metric=lambda dice: dice.choice([None, dice.random()]), most_events=200)


def test_trials_are_validated_where_the_searcher_asks_and_where_they_are_held() -> None:
    search = Search(Climbing, replace(WORLD, period=4, metric=lambda _: 0.5)).run()
    units = [event[2] for event in search.history if event[:2] == ("validation_completed", 1)]
    assert units == [2, 4, 5, 8, 12]


def test_a_trial_that_is_held_and_of_which_nothing_is_said_ends_by_itself() -> None:
    make = broken(initial_trials=lambda self, _: [Create(until=2)] * self.count, validation_completed=lambda *_: [])
    search = Search(make, WORLD).run()
    assert [trial.units for trial in search.trials.values()] == [2] * Halving.count


def test_trials_that_rest_end_with_the_shutdown() -> None:
    search = Search(Climbing, replace(WORLD, metric=lambda dice: dice.random())).run()
    assert {trial.state for trial in search.trials.values()} == {"ended"}
    assert {2, 12} <= {trial.units for trial in search.trials.values()}


def test_trials_may_end_by_themselves() -> None:
    search = Search(Halving, replace(WORLD, fate=lambda _: "exit")).run()
    assert [event[0] for event in search.history] == ["initial_trials", *["trial_exited"] * Halving.count]


def resume_later(searcher: Any, _: object, trial_id: int, *__: object) -> Sequence[Action]:
    """Pauses for good; the last to be paused goes on after the shutdown."""
    searcher.over.append(trial_id)
    last = len(searcher.over) == searcher.count
    return [Pause(trial_id), *([Shutdown(), Resume(trial_id, 9)] if last else [])]


def plan(*brackets: tuple[tuple[int, ...], tuple[int, ...]]) -> list[Bracket]:
    return [Bracket(rungs=rungs, trials=trials, max_concurrent_trials=2) for rungs, trials in brackets]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken(initial_trials=lambda *_: []), "begins without any trial"),
        (broken(trial_exited=lambda *_: []), "the searcher has not said Shutdown"),
        (broken(validation_completed=lambda _self, _ctx, trial_id, *_: [Pause(trial_id)]), "has not said Shutdown"),
        (broken(trial_exited=lambda *_: [Create()]), "does not come to an end"),
        (broken(trial_exited=lambda *_: [Shutdown(), Create()]), "a trial is created after Shutdown"),
        (broken(validation_completed=lambda *_: [Stop(99)]), "there is no such trial"),
        (broken(trial_exited=lambda _self, _ctx, trial_id: [Stop(trial_id)]), "and the trial is ended"),
        (broken(validation_completed=lambda _self, _ctx, trial_id, *_: [Resume(trial_id, 9)]), "the trial is running"),
        (
            broken(validation_completed=lambda _self, _ctx, trial_id, *_: [Pause(trial_id), Resume(trial_id, 3)]),
            "has trained for 3 already",
        ),
        (broken(validation_completed=lambda _self, _ctx, trial_id, *_: [Pause(trial_id)] * 2), "the trial is paused"),
        (broken(validation_completed=resume_later), "the trial is ended"),
        (broken(initial_trials=lambda *_: [Create(until=0)]), "'until' must be at least 1"),
        (broken(initial_trials=lambda *_: [Create(), Create(source=1)]), "trial 1 was never validated"),
        (broken(validation_completed=lambda *_: [Create(source=99)]), "there is no such trial"),
        (broken(initial_trials=lambda *_: [Create({"lr": {1, 2}})]), "JSON"),
        (broken(validate_at=lambda *_: [3, 3]), r"validate_at\(\d\) is \[3, 3\]: it must rise"),
        (broken(validate_at=lambda *_: [0, 3]), "from 1 to 12"),
        (broken(validate_at=lambda *_: [3, 13]), "from 1 to 12"),
        (broken(snapshot=lambda self: {"first": self.first}), "a snapshot changed after it was taken"),
        (broken(snapshot=lambda _: {1: 2}), "the snapshot is not plain JSON"),
        (broken(snapshot=lambda _: {"a": (1, 2)}), "the snapshot is not plain JSON"),
        (broken(progress=lambda self: 1 - len(self.over) / 4), "the progress went from 1"),
        (broken(progress=lambda _: 1.5), "the progress went from 0.0 to 1.5"),
    ],
)
def test_a_broken_rule_is_named(make: Callable[[], Searcher], message: str) -> None:
    with pytest.raises((AssertionError, TypeError), match=message):
        Search(make, WORLD).run()


@pytest.mark.parametrize("reason", ["error", "invalid_hp"])
def test_more_trials_than_allowed_are_found_and_those_with_invalid_hyperparameters_do_not_count(reason: str) -> None:
    def replace_one(searcher: Any, ctx: SearcherContext, trial_id: int, _: str) -> Sequence[Action]:
        return [Create()] if trial_id == 1 else Halving.trial_exited(searcher, ctx, trial_id)

    world = replace(WORLD, max_trials=Halving.count, fate=lambda _: reason, slots=1)  # type: ignore[arg-type]
    make = broken(trial_failed=replace_one)
    if reason == "invalid_hp":
        assert len(Search(make, world).run().trials) == Halving.count + 1
    else:
        with pytest.raises(AssertionError, match=r"5 trials are made, .* and max_trials is 4"):
            Search(make, world).run()


@pytest.mark.parametrize(
    ("brackets", "message"),
    [
        (plan(((2, 12), (4, 1))), None),
        (plan(((2, 12), (3, 1)), ((12,), (1,))), None),
        (plan(((2, 12), (4,))), "trials at each rung are missing"),
        (plan(((), ())), "trials at each rung are missing"),
        (plan(((2, 11), (4, 1))), "its last rung is not the full length"),
        (plan(((2, 2, 12), (4, 1, 1))), "its rungs do not rise"),
        (plan(((0, 12), (4, 1))), "its rungs do not rise"),
        (plan(((2, 12), (4, 5))), "its trials do not fall"),
        (plan(((2, 12), (4, 0))), "its trials do not fall"),
        (plan(((2, 12), (3, 1))), "the brackets make 3 trials, and max_trials is 4"),
    ],
)
def test_a_plan_that_makes_no_sense_is_found(brackets: list[Bracket], message: str | None) -> None:
    suite = TestHalving()
    suite.make = broken(brackets=lambda _: brackets)  # type: ignore[method-assign]
    suite.config = lambda: {"max_trials": 4}  # type: ignore[method-assign]
    if message is None:
        suite.test_its_plan_is_consistent()
    else:
        with pytest.raises(AssertionError, match=message):
            suite.test_its_plan_is_consistent()


def test_a_plan_that_is_not_kept_is_found() -> None:
    suite = TestHalving()
    suite.make = broken(brackets=lambda _: plan(((12,), (3,))))  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="not as planned"):
        suite.test_it_comes_to_an_end_in_any_order_of_events(WORLD, 0)


def test_a_snapshot_with_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Search(broken(snapshot=lambda _: {"a": float("nan")}), WORLD).run()


def test_an_answer_to_a_late_event_is_found() -> None:
    make = broken(validation_completed=lambda *_: [Shutdown()])
    with pytest.raises(AssertionError, match="a trial that has ended is answered with"):
        Search(make, World(length=3, period=3, late_validations=True)).run()


def test_state_that_the_snapshot_does_not_tell_is_found() -> None:
    suite = TestHalving()
    suite.make = broken(snapshot=lambda _: {"first": {}, "over": []})  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        suite.test_restored_before_every_event_it_decides_as_if_undisturbed(WORLD, 0)
