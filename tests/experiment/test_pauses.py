"""Trials that the searcher pauses and resumes: what runs, what rests, and what the searcher hears."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from mnist_trials.experiment import api
from mnist_trials.records import Outcome, TrialState

LAUNCHERS = ["inline", "local"]


@pytest.fixture(autouse=True)
def scripted(lab: Any) -> None:
    importlib.import_module("scripted_searcher").install()


def create(**values: Any) -> list[Any]:
    return ["Create", values]


def pause(trial_id: int, **values: Any) -> list[Any]:
    return ["Pause", {"trial_id": trial_id, **values}]


def resume(trial_id: int, until: int, **values: Any) -> list[Any]:
    return ["Resume", {"trial_id": trial_id, "until": until, **values}]


SHUTDOWN = ["Shutdown", {}]

# Three trials are tried at 2; the third is promoted where it is, then the first, which rested.
PROMOTIONS = {
    "": [create(until=2) for _ in range(3)],
    "1@2": [pause(1)],
    "2@2": [pause(2)],
    "3@2": [pause(3, why="first of 3"), resume(3, 4, why="promoted")],
    "3@4": [pause(3), resume(1, 6)],
    "exit 1": [["Shutdown", {"why": "one is enough"}]],
}


def submit(lab: Any, answers: dict[str, Any], *, launcher: str = "local", **settings: Any) -> int:
    config = lab.config(launcher=launcher, length=settings.pop("length", 6), **settings.pop("hparams", {}))
    config["searcher"] |= {"name": "scripted", "answers": answers, **settings}
    return lab.submit(config, slots=1)  # type: ignore[no-any-return]


def told(lab: Any, experiment_id: int = 1) -> list[tuple[str, int | None, int | None]]:
    with lab.reader() as reader:
        return [(row.event, row.trial_id, row.units) for row in reader.decisions(experiment_id)]


def runs(lab: Any, trial_id: int, experiment_id: int = 1) -> list[tuple[Outcome | None, int, int]]:
    with lab.reader() as reader:
        return [(run.outcome, run.start_batches, run.batches) for run in reader.runs(experiment_id, trial_id)]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_trials_rest_at_their_rung_and_the_promoted_go_on(lab: Any, launcher: str) -> None:
    summary = lab.run(submit(lab, PROMOTIONS, launcher=launcher))
    assert summary["state"] == "COMPLETED"
    assert [(trial["state"], trial["batches"], trial["stopped_early"]) for trial in summary["trials"]] == [
        ("COMPLETED", 6, False),
        ("COMPLETED", 2, True),
        ("COMPLETED", 4, True),
    ]
    assert told(lab) == [
        ("initial_trials", None, None),
        ("validation_completed", 1, 2),
        ("validation_completed", 2, 2),
        ("validation_completed", 3, 2),
        ("validation_completed", 3, 4),
        ("validation_completed", 1, 4),
        ("validation_completed", 1, 6),
        ("trial_exited", 1, None),
    ]
    assert runs(lab, 1) == [(Outcome.PAUSED, 0, 2), (Outcome.COMPLETED, 2, 6)]
    assert runs(lab, 3) == [(Outcome.PAUSED, 0, 4)], "it was promoted without leaving its slots"
    with lab.reader() as reader:
        assert reader.experiment(1).message == "one is enough"
        assert reader.trial(1, 2).message == "the search ended while it was paused"
        promoted = reader.decisions(1)[3].actions
    assert promoted == (
        {"action": "Pause", "trial_id": 3, "why": "first of 3"},
        {"action": "Resume", "trial_id": 3, "until": 4, "why": "promoted"},
    )
    assert "the search has ended early: one is enough" in lab.notices()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_trial_that_was_paused_ends_with_the_values_of_one_that_was_not(lab: Any, launcher: str) -> None:
    lab.run(submit(lab, PROMOTIONS, launcher=launcher))
    other = submit(lab, {"": [create()]}, launcher=launcher)
    lab.run(other)
    assert lab.values(1, 1) == lab.values(other, 1)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_held_trial_of_which_the_searcher_says_nothing_ends_of_itself(lab: Any, launcher: str) -> None:
    summary = lab.run(submit(lab, {"": [create(until=3)]}, launcher=launcher))
    (trial,) = summary["trials"]
    assert (summary["state"], trial["state"], trial["batches"]) == ("COMPLETED", "COMPLETED", 3)
    assert trial["stopped_early"] is False
    assert runs(lab, 1) == [(Outcome.COMPLETED, 0, 3)]
    assert told(lab)[1:] == [
        ("validation_completed", 1, 2),
        ("validation_completed", 1, 3),
        ("trial_exited", 1, None),
    ]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_no_trial_is_held_whose_until_is_its_full_length(lab: Any, launcher: str) -> None:
    summary = lab.run(submit(lab, {"": [create(until=6)]}, launcher=launcher))
    assert [trial["batches"] for trial in summary["trials"]] == [6]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_held_trial_that_is_stopped_is_stopped(lab: Any, launcher: str) -> None:
    answers = {"": [create(until=2)], "1@2": [["Stop", {"trial_id": 1}]]}
    (trial,) = lab.run(submit(lab, answers, launcher=launcher))["trials"]
    assert (trial["state"], trial["batches"], trial["stopped_early"]) == ("COMPLETED", 2, True)
    assert told(lab)[-1] == ("trial_exited", 1, None)


@pytest.mark.parametrize("resting", [True, False])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_paused_trial_that_is_stopped_ends_and_the_searcher_is_told_once(
    lab: Any, launcher: str, resting: bool
) -> None:
    """It rests already, or its pause is still being carried out."""
    stop = ["Stop", {"trial_id": 1}]
    answers = {"": [create(until=2), create()], **({"2@2": [stop]} if resting else {})}
    lab.run(submit(lab, answers | {"1@2": [pause(1), *([] if resting else [stop])]}, launcher=launcher))
    with lab.reader() as reader:
        trial = reader.trial(1, 1)
    assert (trial.state, trial.batches, trial.stopped_early) == (TrialState.COMPLETED, 2, True)
    assert (trial.message, trial.resting) == ("stopped by the searcher", False)
    assert [event for event, number, _ in told(lab) if number == 1].count("trial_exited") == 1
    assert [outcome for outcome, _, _ in runs(lab, 1)] == [Outcome.PAUSED if resting else Outcome.STOPPED]


def test_trials_are_validated_at_the_points_that_the_searcher_names(lab: Any) -> None:
    lab.run(submit(lab, {"": [create()]}, points=[5, 3, 3], hparams={"validate_every": 6}))
    assert [units for event, _, units in told(lab) if event == "validation_completed"] == [3, 5, 6]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_trial_that_is_not_held_can_be_paused_and_resumed(lab: Any, launcher: str) -> None:
    """As by a searcher that names no point: the run ends as soon as it is saved."""
    answers = {"": [create(), create()], "1@2": [pause(1)], "exit 2": [resume(1, 6)]}
    hold = {"do": "hold", "at": 2, "in_trials": [1], "in_runs": [1]}
    summary = lab.run(submit(lab, answers, launcher=launcher, hparams=hold))
    assert [(trial["state"], trial["batches"]) for trial in summary["trials"]] == [("COMPLETED", 6)] * 2
    assert [outcome for outcome, _, _ in runs(lab, 1)] == [Outcome.PAUSED, Outcome.COMPLETED]
    with lab.reader() as reader:
        assert reader.runs(1, 1)[1].started >= reader.runs(1, 2)[0].ended


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_paused_and_resumed_in_one_answer_it_goes_on_where_it_is(lab: Any, launcher: str) -> None:
    answers = {"": [create()], "1@2": [pause(1), resume(1, 6)]}
    lab.run(submit(lab, answers, launcher=launcher))
    assert runs(lab, 1) == [(Outcome.COMPLETED, 0, 6)]


def test_a_waiting_trial_that_is_paused_does_not_start_until_it_is_resumed(lab: Any) -> None:
    answers = {"": [create(), create(), create()], "1@2": [pause(2)], "exit 3": [resume(2, 6)]}
    lab.run(submit(lab, answers))
    with lab.reader() as reader:
        first, second, third = (reader.runs(1, number)[0] for number in (1, 2, 3))
    assert first.ended <= third.started
    assert third.ended <= second.started


def test_a_trial_is_queued_again_if_it_is_resumed_while_its_pause_is_carried_out(lab: Any) -> None:
    answers = {"": [create()], "1@2": [pause(1), create()], "2@2": [resume(1, 6)]}
    config = lab.config(launcher="local", do="deaf", at=2, in_trials=[1], in_runs=[1])
    config["searcher"] |= {"name": "scripted", "answers": answers}

    def let_go(event: Any) -> None:
        if type(event).__name__ == "ValidationCompleted" and event.trial_id == 2 and event.batches == 2:
            (lab.files(1).trial(1) / "go").touch()

    follower = importlib.import_module("recording_logger").Recording(let_go)
    summary = lab.run(lab.submit(config, slots=2), [follower])
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 2
    assert [outcome for outcome, _, _ in runs(lab, 1)] == [Outcome.PAUSED, Outcome.COMPLETED]


def test_reports_of_a_trial_that_was_just_paused_are_not_told(lab: Any) -> None:
    answers = {"": [create(), create()], "1@2": [pause(1)], "exit 2": [SHUTDOWN]}
    # It hears of its pause between the validations at 2 and 3.
    hold = {"do": "hold", "at": 2, "in_trials": [1], "validate_every": 1, "hears_from": 3}
    lab.run(submit(lab, answers, hparams=hold))
    with lab.reader() as reader:
        assert [row.batches for row in reader.metrics(1, 1, "validation")] == [1, 2, 3]
    assert [units for _, trial, units in told(lab) if trial == 1] == [1, 2]


@pytest.mark.parametrize("at", ["at", "when_held"])
def test_a_resting_trial_that_dies_before_it_is_saved_is_restarted_to_get_there_and_rests(lab: Any, at: str) -> None:
    """`at` 2 is after the validation there; `when_held` is after the checkpoint."""
    answers = {"": [create(until=3), create()], "1@3": [pause(1)], "exit 2": [resume(1, 6)]}
    do = {"do": "kill", at: 3 if at == "when_held" else 2, "in_trials": [1], "in_runs": [1], "save_every": 100}
    summary = lab.run(submit(lab, answers, hparams=do))
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 2
    assert summary["trials"][0]["restarts"] == 1
    assert [entry for entry in told(lab) if entry[1] == 1] == [
        ("validation_completed", 1, 2),
        ("validation_completed", 1, 3),
        ("validation_completed", 1, 4),
        ("validation_completed", 1, 6),
        ("trial_exited", 1, None),
    ]
    undisturbed = submit(lab, {"": [create()]}, hparams={"validate_every": 2}, points=[3])
    lab.run(undisturbed)
    assert lab.values(1, 1) == lab.values(undisturbed, 1)


def test_a_held_worker_that_is_killed_goes_on_from_where_it_was_held(lab: Any) -> None:
    answers = {"": [create(until=2)], "1@2": [pause(1), resume(1, 6)]}
    summary = lab.run(submit(lab, answers, hparams={"do": "kill", "when_held": 2, "in_runs": [1], "save_every": 100}))
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 1)
    assert runs(lab, 1) == [(None, 0, 2), (Outcome.COMPLETED, 2, 6)]


def test_a_resting_trial_that_keeps_failing_fails_for_good_and_the_searcher_is_told(lab: Any) -> None:
    answers = {"": [create(until=3)], "1@3": [pause(1)]}
    do = {"do": "exit", "code": 3, "when_held": 3, "save_every": 100}
    config = lab.config(launcher="local", **do) | {"max_restarts": 0}
    config["searcher"] |= {"name": "scripted", "answers": answers}
    summary = lab.run(lab.submit(config, slots=1))
    assert summary["trials"][0]["state"] == "ERROR"
    assert told(lab)[-1] == ("trial_failed", 1, None)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_searcher_that_pauses_all_and_says_no_more_is_told_off(lab: Any, launcher: str) -> None:
    answers = {"": [create(until=2), create(until=2)], "1@2": [pause(1)], "2@2": [pause(2)]}
    assert lab.run(submit(lab, answers, launcher=launcher))["state"] == "ERROR"
    with lab.reader() as reader:
        message = reader.experiment(1).message
        assert [trial.state for trial in reader.trials(1)] == [TrialState.CANCELED] * 2
    assert "'scripted' is at a loss: it has paused every trial that is left (1, 2)" in message


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        ({"1@2": [["Stop", {"trial_id": 99}]]}, "stop trial 99, which it never created: there are 1"),
        ({"1@2": [pause(99)]}, "pause trial 99, which it never created"),
        ({"1@2": [pause(1), pause(1)]}, "pause trial 1, which is paused already"),
        ({"1@2": [["Stop", {"trial_id": 1}], pause(1)]}, "pause trial 1, which it has stopped"),
        ({"1@2": [resume(99, 4)]}, "resume trial 99, which it never created"),
        ({"1@2": [resume(1, 4)]}, "resume trial 1, which it has not paused"),
        ({"1@4": [pause(1), resume(1, 4)]}, "until it has 4 units, and it had 4 when it was last judged"),
        ({"exit 1": [pause(1)]}, "pause trial 1, which has ended"),
        ({"exit 1": [resume(1, 9)]}, "resume trial 1, which has ended"),
        ({"1@2": [SHUTDOWN, create()]}, "create a trial, after it has shut down"),
        ({"1@2": [create(source=99)]}, "weights of trial 99, which it never created"),
        ({"1@2": [create(), create(source=2)]}, "weights of trial 2, which has not been validated yet"),
        ({"1@2": [pause(0)]}, "trial_id must be a whole number of at least 1"),
        ({"1@2": [pause(None)]}, "trial_id must be a whole number of at least 1"),  # type: ignore[arg-type]
        ({"1@2": [create(until=0)]}, "until must be a whole number of at least 1"),
        ({"1@2": [pause(1), resume(1, None)]}, "until must be a whole number of at least 1"),  # type: ignore[arg-type]
        ({"1@2": [create(source="1")]}, "source must be a whole number of at least 1"),
        ({"1@2": [create(until=True)]}, "until must be a whole number of at least 1"),
        ({"1@2": [pause(1, why=3)]}, "why must be a Judgement or a sentence"),
        ({"1@2": [create(hparams=3)]}, "hyperparameters that are no strict JSON"),
    ],
)
def test_what_a_searcher_must_not_do_ends_the_experiment_with_its_name(
    lab: Any, answers: dict[str, Any], what: str
) -> None:
    assert lab.run(submit(lab, {"": [create()], **answers}, launcher="inline"))["state"] == "ERROR"
    with lab.reader() as reader:
        message = reader.experiment(1).message
        assert all(trial.state.ended for trial in reader.trials(1))
        assert reader.open_runs(1) == []
    assert what in message
    assert message.startswith("The searcher 'scripted' ")


def test_points_that_are_no_numbers_end_the_experiment_with_the_name_of_the_searcher(lab: Any) -> None:
    assert lab.run(submit(lab, {"": [create()]}, points=["2"], launcher="inline"))["state"] == "ERROR"
    with lab.reader() as reader:
        assert "'scripted' wants trial 1 validated at ['2']" in reader.experiment(1).message


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_trial_that_is_paused_after_the_shutdown_ends(lab: Any, launcher: str) -> None:
    answers = {"": [create(until=4), SHUTDOWN], "1@2": [pause(1), resume(1, 6)], "1@6": []}
    summary = lab.run(submit(lab, answers | {"1@4": [pause(1)]}, launcher=launcher))
    (trial,) = summary["trials"]
    assert (trial["state"], trial["stopped_early"]) == ("COMPLETED", True)
    assert [event for event, _, _ in told(lab)].count("trial_exited") == 0


class TestPeople:
    """What people ask for while trials rest."""

    @pytest.fixture
    def held(self, lab: Any) -> Any:
        """The controller of an experiment whose trials 1 and 2 rest while 3 waits at batch 3."""
        hold = {"do": "hold", "at": 3, "in_trials": [3], "in_runs": [1]}
        process = lab.start(submit(lab, PROMOTIONS, hparams=hold))
        lab.wait_until_holding(1)
        return process

    def states(self, lab: Any) -> list[TrialState]:
        with lab.reader() as reader:
            return [trial.state for trial in reader.trials(1)]

    def test_pause_and_activate_leave_resting_trials_resting(self, lab: Any, held: Any) -> None:
        api.request(1, "pause", home=lab.home)
        assert lab.finish(held)["state"] == "PAUSED"
        assert self.states(lab) == [TrialState.PAUSED] * 3
        plan = api.plan(1, home=lab.home)
        # On its way out trial 3 was validated at 4, and the searcher paused it there and resumed trial 1.
        assert [(trial.action, trial.batches) for trial in plan.trials] == [("continue", 2), ("rest", 2), ("rest", 4)]
        assert "trial 2: it stays paused by the searcher, at batch 2" in str(plan)
        summary = lab.finish(lab.start(1))
        assert [(trial["state"], trial["batches"]) for trial in summary["trials"]] == [
            ("COMPLETED", 6),
            ("COMPLETED", 2),
            ("COMPLETED", 4),
        ]
        undisturbed = submit(lab, PROMOTIONS)
        lab.run(undisturbed)
        assert told(lab, 1) == told(lab, undisturbed)

    def test_a_dead_controller_is_settled_with_resting_trials_resting(self, lab: Any, held: Any) -> None:
        held.kill()
        held.communicate(timeout=60)
        assert [trial.action for trial in api.plan(1, home=lab.home).trials] == ["rest", "rest", "continue"]
        api.request(1, "pause", home=lab.home)
        assert self.states(lab) == [TrialState.PAUSED] * 3
        summary = lab.finish(lab.start(1))
        assert [trial["batches"] for trial in summary["trials"]] == [6, 2, 4]

    @pytest.mark.parametrize("command", ["cancel", "kill"])
    @pytest.mark.parametrize("alive", [True, False])
    def test_cancel_and_kill_end_resting_trials(self, lab: Any, held: Any, command: Any, alive: bool) -> None:
        if not alive:
            held.kill()
            held.communicate(timeout=60)
        api.request(1, command, home=lab.home)
        if alive:
            lab.finish(held)
        assert self.states(lab) == [TrialState.CANCELED] * 3
        with lab.reader() as reader:
            assert reader.experiment(1).state == "CANCELED"
