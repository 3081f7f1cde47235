"""`mt.simulate`: slots, time, and trials that are stopped, paused and resumed."""

from __future__ import annotations

from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.plugin import Create, Pause, Resume, Shutdown, Stop
from tests.experiment.simulated import BEGIN, DONE, Slow, config, play


@pytest.mark.parametrize(
    ("slots", "rest", "seconds"),
    [
        (1, {}, 60.0),
        (2, {}, 36.0),
        (5, {}, 12.0),
        (99, {}, 12.0),
        (99, {"searcher": {"max_concurrent_trials": 2}}, 36.0),
        (99, {"resources": {"max_slots": 3}}, 24.0),
        (5, {"resources": {"slots_per_trial": 2}}, 36.0),
    ],
)
def test_as_many_trials_run_at_once_as_slots_and_bounds_allow(slots: int, rest: Any, seconds: float) -> None:
    given = config(name="random", **{**rest, "searcher": {"max_trials": 5, **rest.get("searcher", {})}})
    result = mt.simulate(given, lambda hparams, units: 0.0, slots=slots)
    assert (result.seconds, result.total_units, len(result.trials)) == (seconds, 60, 5)


def test_trials_that_wait_start_in_the_order_of_their_ids() -> None:
    result = play({BEGIN: [Create() for _ in range(7)]}, slots=2)
    assert [trial_id for _, trial_id, _, _ in result.timeline] == list(range(1, 8))


def test_a_trial_stopped_while_it_trains_has_trained_whole_units_and_frees_its_slot_at_once() -> None:
    script = {BEGIN: [Create(), Create(), Create()], (DONE, 2, 6): [Stop(1)]}
    result = play(script, slots=2, conditions=Slow(), min_validation_period=6)
    stopped = result.trials[0]
    assert (stopped.units, stopped.stopped_early, stopped.state, stopped.metrics) == (1, True, "COMPLETED", [])
    assert [(time, trial_id) for time, trial_id, _, _ in result.timeline] == [(6, 2), (12, 2), (12, 3), (18, 3)]
    assert result.total_units == 25
    assert [decision.trial_id for decision in result.decisions if decision.event == "trial_exited"] == [1, 2, 3]


def test_a_trial_stopped_while_it_waits_never_runs() -> None:
    result = play({BEGIN: [Create(), Create(), Create()], (DONE, 1, 12): [Stop(2), Stop(1)]})
    assert [trial.units for trial in result.trials] == [12, 0, 12]
    assert [trial.stopped_early for trial in result.trials] == [True, True, False]


def test_a_stop_of_a_trial_that_has_ended_by_itself_is_no_mistake() -> None:
    assert play({BEGIN: [Create(), Create()], (DONE, 2, 12): [Stop(1)]}).trials[0].stopped_early is False


def test_a_trial_of_which_nothing_is_said_ends_where_it_was_to_ask() -> None:
    result = play({BEGIN: [Create(until=5), Create(until=99)]})
    assert [(trial.units, trial.stopped_early) for trial in result.trials] == [(5, False), (12, False)]
    assert [units for _, _, units, _ in result.timeline] == [5, 12]


def test_a_trial_that_is_paused_and_resumed_in_one_answer_keeps_its_slot() -> None:
    script = {
        BEGIN: [Create(until=3), Create(until=3)],
        (DONE, 1, 3): [Pause(1), Resume(1, 8)],
        (DONE, 1, 8): [Pause(1), Resume(1, 12)],
    }
    assert play(script).timeline == [(3, 1, 3, 1 / 3), (8, 1, 8, 1 / 8), (12, 1, 12, 1 / 12), (15, 2, 3, 1 / 3)]


def test_a_trial_that_is_paused_gives_way_and_goes_on_when_there_is_room_again() -> None:
    script = {
        BEGIN: [Create(until=3), Create(until=3), Create()],
        (DONE, 1, 3): [Pause(1)],
        (DONE, 2, 3): [Pause(2), Resume(1, 12)],
        ("trial_exited", 3): [Resume(2, 4)],
    }
    result = play(script)
    assert [(time, trial_id, units) for time, trial_id, units, _ in result.timeline] == [
        (3, 1, 3),
        (6, 2, 3),
        (15, 1, 12),
        (27, 3, 12),
        (28, 2, 4),
    ]
    assert result.total_units == 28


def test_a_trial_may_be_paused_while_it_trains_or_waits() -> None:
    script = {
        BEGIN: [Create(), Create(), Create()],
        (DONE, 2, 6): [Pause(1), Pause(3)],
        (DONE, 2, 12): [Resume(3, 12), Resume(1, 12)],
    }
    result = play(script, slots=2, conditions=Slow(), min_validation_period=6)
    # Trial 1 had one unit and half a second one when it was paused.
    assert [(time, trial_id, units) for time, trial_id, units, _ in result.timeline] == [
        (6, 2, 6),
        (12, 2, 12),
        (18, 3, 6),
        (24, 3, 12),
        (32, 1, 6),
        (56, 1, 12),
    ]


def test_a_trial_that_trains_may_be_given_another_end() -> None:
    script = {BEGIN: [Create(until=9), Create()], (DONE, 2, 6): [Pause(1), Resume(1, 3)]}
    result = play(script, slots=2, conditions=Slow(), min_validation_period=6)
    assert [entry[:3] for entry in result.timeline] == [(6, 2, 6), (12, 1, 3), (12, 2, 12)]


def test_trials_that_arrive_together_are_all_validated_whatever_becomes_of_them_in_between() -> None:
    script = {BEGIN: [Create(until=4), Create(until=4)], (DONE, 1, 4): [Pause(2), Resume(2, 8)]}
    assert play(script, slots=2).trials[1].metrics == [(8, 1 / 8)]
    script = {BEGIN: [Create(), Create()], (DONE, 1, 4): [Pause(2), Resume(2, 8)]}
    assert [units for units, _ in play(script, slots=2, min_validation_period=4).trials[1].metrics] == [4, 8]


def test_the_shutdown_ends_those_that_rest_and_lets_the_others_finish() -> None:
    script = {
        BEGIN: [Create(until=3), Create(), Create(until=3)],
        (DONE, 1, 3): [Pause(1)],
        (DONE, 3, 3): [Pause(3), Shutdown("enough")],
    }
    result = play(script, slots=2)
    assert [(trial.units, trial.stopped_early) for trial in result.trials] == [(3, True), (12, False), (3, True)]
    assert {trial.state for trial in result.trials} == {"COMPLETED"}
    assert [decision.trial_id for decision in result.decisions if decision.event == "trial_exited"] == [2]
    assert result.message == "enough"


def test_a_trial_with_a_source_has_the_training_of_its_weights_on_top() -> None:
    script = {
        BEGIN: [Create(until=3)],
        (DONE, 1, 3): [Create({"copy": 1}, until=4, source=1)],
        (DONE, 2, 4): [Create(source=2)],
    }
    result = play(script, objective=lambda hparams, units: units)
    assert [(trial.source, trial.inherited, trial.units) for trial in result.trials] == [
        (None, 0, 3),
        (1, 3, 4),
        (2, 7, 12),
    ]
    assert [trial.metrics for trial in result.trials] == [[(3, 3.0)], [(4, 7.0)], [(12, 19.0)]]
    assert result.total_units == 19
