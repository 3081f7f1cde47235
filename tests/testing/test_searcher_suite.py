"""The suite finds each way in which a searcher can break the rules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.plugin import Action, Create, Pause, Resume, Searcher, SearcherContext, Shutdown, Stop
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


class TestHalving(SearcherSuite):
    @override
    def make(self) -> Searcher:
        return Halving()


def broken(**methods: Callable[..., Any]) -> Callable[[], Searcher]:
    return type("Broken", (Halving,), methods)


WORLD = World(length=12, period=3, metric=lambda dice: dice.choice([None, dice.random()]), most_events=200)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken(initial_trials=lambda *_: []), "begins without any trial"),
        (broken(trial_exited=lambda *_: []), "the searcher has not said Shutdown"),
        (broken(trial_exited=lambda *_: [Create()]), "does not come to an end"),
        (broken(trial_exited=lambda *_: [Shutdown(), Create()]), "a trial is created after Shutdown"),
        (broken(validation_completed=lambda *_: [Stop(99)]), "there is no such trial"),
        (broken(trial_exited=lambda _self, _ctx, trial_id: [Stop(trial_id)]), "and the trial is ended"),
        (broken(validation_completed=lambda _self, _ctx, trial_id, *_: [Resume(trial_id, 9)]), "the trial is running"),
        (
            broken(validation_completed=lambda _self, _ctx, trial_id, *_: [Pause(trial_id), Resume(trial_id, 3)]),
            "has trained for 3 already",
        ),
        (broken(snapshot=lambda self: {"first": self.first}), "a snapshot changed after it was taken"),
        (broken(snapshot=lambda _: {1: 2}), "the snapshot is not plain JSON"),
        (broken(snapshot=lambda _: {"a": (1, 2)}), "the snapshot is not plain JSON"),
        (broken(progress=lambda self: 1 - len(self.over) / 4), "the progress went from 1"),
        (broken(progress=lambda _: 1.5), "the progress went from 0.0 to 1.5"),
    ],
)
def test_a_broken_rule_is_named(make: Callable[[], Searcher], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        Search(make, WORLD).run()


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
