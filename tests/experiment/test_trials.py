"""Whatever is asked of the trials at an event takes the same time however many there are."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_trials.experiment.conclusion import conclude
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.trials import Trials
from mnist_trials.records import ExperimentState, TrialState
from mnist_trials.store.rows import RunRow, TrialRow

RUN = RunRow(trial_id=0, run=1, slots=(), started=0.0)


def live(trial_id: int, **values: Any) -> LiveTrial:
    row = TrialRow(experiment_id=1, trial_id=trial_id, state=TrialState.QUEUED, hparams={}, seed=0)
    return LiveTrial(replace(row, **values))


def in_order(trials: Trials) -> list[int]:
    """The trials in the order in which they would start."""
    found = []
    while (trial := trials.first_ready()) is not None:
        found.append(trial.row.trial_id)
        trial.run = RUN
        trials.place(trial)
    return found


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["rest", "resume", "run", "stop", "end"])), max_size=60))
def test_those_that_can_start_do_so_in_the_order_of_their_ids(steps: list[tuple[int, str]]) -> None:
    trials = Trials(live(number) for number in range(1, 13))
    for number, what in steps:
        trial = trials.live.get(number)
        if trial is None:
            continue
        if what == "end":
            trials.remove(trial, TrialState.COMPLETED)
            continue
        if what in ("rest", "resume"):
            trial.row = replace(trial.row, resting=what == "rest")
        else:
            trial.run = RUN if what == "run" else None
        trials.place(trial)
    expected = {n for n, trial in trials.live.items() if trial.run is None and not trial.row.resting}
    assert set(trials.running) == {n for n, trial in trials.live.items() if trial.run is not None}
    assert set(trials.resting) == {n for n, trial in trials.live.items() if trial.row.resting}
    assert trials.created == 12 == len(trials.live) + trials.ended.total()
    assert in_order(trials) == sorted(expected)


def lines_run(action: Any) -> int:
    """How many lines of Python `action` runs through: a cost that does not depend on the machine."""
    count = 0

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal count
        # Only ours: a garbage collection in the midst of it may call whatever others have hung on it.
        count += event == "line" and str(frame.f_globals.get("__name__")).startswith("mnist_trials.")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def test_a_hundred_thousand_waiting_trials_cost_an_event_nothing() -> None:
    def one_event(trials: Trials) -> None:
        first = trials.first_ready()
        assert first is not None
        first.run = RUN
        trials.place(first)
        first.run = None
        first.row = replace(first.row, resting=True)
        trials.place(first)
        first.row = replace(first.row, resting=False)
        trials.place(first)
        assert trials.all_heirs() == []

    def many(count: int) -> Trials:
        return Trials(live(number, resting=number > count // 2) for number in range(1, count + 1))

    few, lots = many(10), many(100_000)
    for trials in (few, lots):  # once before it is counted: a heap lets go of its past when it is next looked at
        one_event(trials)
    assert lines_run(lambda: one_event(lots)) <= lines_run(lambda: one_event(few))


@pytest.mark.parametrize(
    ("completed", "failed", "why", "expected"),
    [
        (1, 0, "", (ExperimentState.COMPLETED, "")),
        (7, 2, "", (ExperimentState.COMPLETED, "2 of 9 trials failed")),
        (7, 2, "no more.", (ExperimentState.COMPLETED, "no more; 2 of 9 trials failed")),
        (0, 1, "", (ExperimentState.ERROR, "its trial failed")),
        (0, 9, "", (ExperimentState.ERROR, "all 9 trials failed")),
        (0, 9, "no more.", (ExperimentState.ERROR, "no more; all 9 trials failed")),
        (0, 0, "", (ExperimentState.ERROR, "the searcher created no trial")),
    ],
)
def test_an_experiment_is_an_error_only_if_every_trial_failed(
    completed: int, failed: int, why: str, expected: tuple[ExperimentState, str]
) -> None:
    assert conclude(Counter({TrialState.COMPLETED: completed, TrialState.ERROR: failed}), why) == expected
