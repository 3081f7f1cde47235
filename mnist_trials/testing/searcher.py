"""The tests that every searcher must pass."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any, ClassVar, Literal

import pytest

from mnist_trials.config.space import points
from mnist_trials.plugin import Create, Searcher, get_plugins
from mnist_trials.testing.made_up_search import HYPERPARAMETERS, Search, World

_SEEDS = range(20)


class SearcherSuite:
    """Subclass this in the tests of a searcher plugin, which must be installed.

        class TestSingle(SearcherSuite):
            plugin = "single"

            def config(self):
                return {**super().config(), "max_trials": 5}

    The tests run made-up searches with trials of `length` units, validated every `period` units and wherever the
    searcher asks for it, and check at every event that the searcher keeps the rules of `mnist_trials.plugin.Searcher`.
    """

    plugin: ClassVar[str]
    """The plugin's name."""
    length: ClassVar[int] = 12
    """Units that a trial trains for where the searcher does not end it."""
    period: ClassVar[int] = 3
    """Units between two validations of a trial."""

    def config(self) -> Mapping[str, Any]:
        """The `searcher` section, resolved."""
        return {
            "name": self.plugin,
            "metric": "validation_loss",
            "smaller_is_better": True,
            "max_length": {"batches": self.length},
        }

    def hyperparameters(self) -> Mapping[str, Any]:
        """The `hyperparameters` section, resolved."""
        return HYPERPARAMETERS

    def make(self) -> Searcher:
        """A new searcher."""
        factory = get_plugins().find("searcher", self.plugin).factory
        searcher: Searcher = factory(self.config(), self.hyperparameters())
        return searcher

    @pytest.fixture
    def world(self) -> World:
        """A world in which nothing goes wrong."""
        return World(
            length=self.length,
            period=self.period,
            max_trials=self.config().get("max_trials"),
            hyperparameters=self.hyperparameters(),
        )

    def search(self, world: World) -> Search:
        """A whole search in `world`."""
        return Search(self.make, world).run()

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_it_comes_to_an_end_in_any_order_of_events(self, world: World, seed: int) -> None:
        """And has made all its progress then, and all the trials of its plan."""
        search = self.search(replace(world, seed=seed, slots=1 + seed % 7))
        assert search.progress == pytest.approx(1.0)
        plan = self.make().brackets()
        if plan is not None:
            made = Counter(trial.bracket for trial in search.trials.values())
            assert made == {index: bracket.trials[0] for index, bracket in enumerate(plan)}, f"not as planned: {plan}"

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_restored_before_every_event_it_decides_as_if_undisturbed(self, world: World, seed: int) -> None:
        """Its snapshot, as JSON, is all its state; whatever happens to the trials."""
        disturbed = replace(world, seed=seed, metric=_often_none, fate=_anything, late_validations=True)
        assert self.search(replace(disturbed, interrupted=True)).history == self.search(disturbed).history

    def test_the_same_events_lead_to_the_same_decisions(self, world: World) -> None:
        """It has no dice, no clock and no memory outside itself."""
        assert self.search(world).history == self.search(world).history

    def test_without_a_single_finite_metric_it_comes_to_an_end(self, world: World) -> None:
        """None is the worst of all metrics, and all may have it."""
        self.search(replace(world, metric=lambda _: None))

    def test_with_equal_metrics_it_comes_to_an_end(self, world: World) -> None:
        """No trial is better than any other."""
        self.search(replace(world, metric=lambda _: 0.5))

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_with_few_finite_metrics_it_comes_to_an_end(self, world: World, seed: int) -> None:
        """None, here and there."""
        self.search(replace(world, seed=seed, metric=_often_none))

    @pytest.mark.parametrize("fate", ["error", "invalid_hp", "exit"])
    @pytest.mark.parametrize("seed", _SEEDS)
    def test_with_trials_that_fail_or_end_early_it_comes_to_an_end(self, world: World, fate: Any, seed: int) -> None:
        """Each step of a trial is its last with a chance of one in three."""
        self.search(replace(world, seed=seed, fate=lambda dice: fate if dice.random() < 1 / 3 else None))

    @pytest.mark.parametrize("fate", ["error", "invalid_hp", "exit"])
    def test_if_no_trial_is_ever_validated_it_comes_to_an_end(self, world: World, fate: Any) -> None:
        """Replacements for trials with invalid hyperparameters are bounded."""
        self.search(replace(world, fate=lambda _: fate))

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_whatever_happens_it_comes_to_an_end(self, world: World, seed: int) -> None:
        """Everything at once, on few slots and many."""
        self.search(replace(world, seed=seed, slots=1 + seed % 7, metric=_often_none, fate=_anything))

    @pytest.mark.parametrize("seed", _SEEDS)
    def test_late_events_are_ignored(self, world: World, seed: int) -> None:
        """A validation that was on its way when its trial ended is answered with no action."""
        self.search(replace(world, seed=seed, late_validations=True))

    def test_progress_begins_at_nothing(self) -> None:
        """Before the first trial is made."""
        assert self.make().progress() == 0

    def test_restored_anew_its_snapshot_is_the_same(self, world: World) -> None:
        """`restore` takes over everything that `snapshot` tells."""
        first, second = self.make(), self.make()
        second.restore(first.snapshot())
        assert second.snapshot() == first.snapshot()

    def test_the_first_trials_are_as_many_as_ever(self, world: World) -> None:
        """`initial_trials` does not depend on what else happens."""
        begun = [self.search(replace(world, seed=seed)).history[0] for seed in _SEEDS]
        assert all(first == begun[0] for first in begun)
        assert any(isinstance(action, Create) for action in begun[0])

    def test_its_plan_is_consistent(self) -> None:
        """Rungs rise to the full length, trials fall, and all brackets together make `max_trials`."""
        plan = self.make().brackets()
        for bracket in plan or ():
            assert len(bracket.rungs) == len(bracket.trials) > 0, f"{bracket}: trials at each rung are missing"
            assert bracket.rungs[-1] == self.length, f"{bracket}: its last rung is not the full length"
            rising = all(lower < upper for lower, upper in itertools.pairwise((0, *bracket.rungs)))
            assert rising, f"{bracket}: its rungs do not rise from above 0"
            falling = all(first >= second for first, second in itertools.pairwise((*bracket.trials, 1)))
            assert falling, f"{bracket}: its trials do not fall to at least 1"
            assert bracket.max_concurrent_trials >= 0, f"{bracket}: fewer than no trials at once"
        most = self.config().get("max_trials")
        if plan is not None and most is not None:
            most = min(most, points(self.hyperparameters()) or most)
            made = sum(bracket.trials[0] for bracket in plan)
            assert made == most, f"the brackets make {made} trials, and max_trials is {most}"


def _often_none(dice: Random) -> float | None:
    return dice.choice([None, dice.random()])


def _anything(dice: Random) -> Literal["error", "invalid_hp", "exit"] | None:
    fates: list[Literal["error", "invalid_hp", "exit"] | None] = [None, None, None, None, "error", "invalid_hp", "exit"]
    return dice.choice(fates)
