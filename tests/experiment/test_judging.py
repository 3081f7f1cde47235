"""What validations mean for the search: which metric, in which unit, and when a trial has had enough."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from mnist_trials.config import ExperimentConfig
from mnist_trials.events import ValidationCompleted
from mnist_trials.experiment.measure import Measure
from mnist_trials.records import Outcome


@pytest.fixture(autouse=True)
def scripted(lab: Any) -> None:
    importlib.import_module("scripted_searcher").install()


def search(lab: Any, /, hparams: dict[str, Any] | None = None, command: bool = False, **searcher: Any) -> int:
    config = lab.config(launcher="inline", **(hparams or {}))
    config["searcher"] |= {"name": "scripted", "trials": 1, **searcher}
    if command:
        (lab.context / "script.py").write_text("")
        config["entrypoint"] = "python3 script.py"
    return lab.submit(config, slots=1)  # type: ignore[no-any-return]


def told(lab: Any) -> list[tuple[int | None, int | None, float | None]]:
    with lab.reader() as reader:
        return [
            (row.trial_id, row.units, row.metric) for row in reader.decisions(1) if row.event == "validation_completed"
        ]


@pytest.mark.parametrize("launcher", ["inline", "local"])
def test_an_unknown_metric_ends_a_search_at_its_first_validation_with_those_that_came(lab: Any, launcher: str) -> None:
    config = lab.config(launcher=launcher)
    config["searcher"] |= {"name": "scripted", "trials": 2, "metric": "los"}
    summary = lab.run(lab.submit(config, slots=1))
    assert summary["state"] == "ERROR"
    assert [trial["state"] for trial in summary["trials"]] == ["CANCELED"] * 2
    with lab.reader() as reader:
        assert reader.experiment(1).message == (
            "validation does not report searcher.metric 'los', by which the searcher 'scripted' judges trials. "
            "Did you mean 'loss'? Reported: loss, value."
        )
        assert reader.open_runs(1) == []


def test_a_metric_that_is_missing_later_or_from_some_trials_counts_as_the_worst(lab: Any) -> None:
    metrics = {"loss": {"2": 0.5, "4": "missing", "6": None}}
    summary = lab.run(search(lab, {"metrics": metrics}, trials=2))
    assert summary["state"] == "COMPLETED"
    assert told(lab) == [
        (trial, units, metric) for trial in (1, 2) for units, metric in ((2, 0.5), (4, None), (6, None))
    ]
    assert lab.notices().count("'loss', which counts as the worst of all. Reported: value.") == 2


def test_it_is_still_known_that_the_metric_came_after_the_controller_died(lab: Any) -> None:
    metrics = {"loss": {"2": 0.5, "4": "missing", "6": "missing"}}
    config = lab.config(launcher="local", metrics=metrics, do="hold", at=3, in_runs=[1])
    config["searcher"] |= {"name": "scripted", "trials": 1}
    process = lab.start(lab.submit(config))
    lab.wait_until_holding(1)
    process.kill()
    process.communicate(timeout=60)
    assert lab.run(1)["state"] == "COMPLETED"


TIMES = {"minutes": {"2": 1.9, "4": 3.0, "6": 4.2, "8": 9.9}}


def test_units_are_whole_ones_of_the_time_metric_and_a_trial_ends_when_its_time_is_up(lab: Any) -> None:
    experiment_id = search(
        lab, {"metrics": TIMES, "train_for": 8}, command=True, max_length=None, max_time=4, time_metric="minutes"
    )
    summary = lab.run(experiment_id)
    (trial,) = summary["trials"]
    assert (trial["state"], trial["stopped_early"], trial["batches"]) == ("COMPLETED", False, 6)
    assert [units for _, units, _ in told(lab)] == [1, 3, 4]
    with lab.reader() as reader:
        assert reader.runs(1, 1)[0].outcome is Outcome.COMPLETED


def test_a_trial_whose_time_is_up_is_ended_though_its_controller_died_before_it_was(lab: Any) -> None:
    hparams = {"metrics": TIMES, "train_for": 8, "do": "deaf", "at": 6, "in_runs": [1]}
    config = lab.config(launcher="local", **hparams)
    config["searcher"] |= {"name": "scripted", "trials": 1, "max_time": 4, "time_metric": "minutes"}
    (lab.context / "script.py").write_text("")
    config["entrypoint"] = "python3 script.py"
    del config["searcher"]["max_length"]
    process = lab.start(lab.submit(config))
    lab.wait_until_holding(1)
    process.kill()
    process.communicate(timeout=60)
    (trial,) = lab.run(1)["trials"]
    assert (trial["state"], trial["stopped_early"]) == ("COMPLETED", False)
    assert [units for _, units, _ in told(lab)] == [1, 3, 4]
    with lab.reader() as reader:
        assert reader.runs(1, 1)[1].outcome is Outcome.COMPLETED


def test_a_trial_whose_time_is_up_is_told_of_no_more(lab: Any) -> None:
    """Every batch is validated, and it hears of its end only after the next one."""
    metrics = {"minutes": {"1": 1.0, "2": 4.0, "3": 5.0, "4": 6.0}}
    config = lab.config(launcher="local", metrics=metrics, train_for=4, validate_every=1, do="hold", at=2)
    config["searcher"] |= {"name": "scripted", "trials": 1, "max_time": 4, "time_metric": "minutes"}
    (lab.context / "script.py").write_text("")
    config["entrypoint"] = "python3 script.py"
    del config["searcher"]["max_length"]
    lab.run(lab.submit(config))
    assert [units for _, units, _ in told(lab)] == [1, 4]


def test_a_validation_without_its_time_is_said_once_and_not_told_to_the_searcher(lab: Any) -> None:
    metrics = {"minutes": {"2": 1.0, "4": "missing", "6": None, "8": 9.0}}
    experiment_id = search(
        lab, {"metrics": metrics, "train_for": 8}, command=True, max_length=None, max_time=9, time_metric="minutes"
    )
    lab.run(experiment_id)
    assert [units for _, units, _ in told(lab)] == [1, 9]
    assert lab.notices().count("searcher.time_metric 'minutes', so the searcher is not told of it.") == 1


def test_units_of_time_never_go_down(lab: Any) -> None:
    metrics = {"minutes": {"2": 3.0, "4": 1.0, "6": 4.0, "8": 9.0}}
    experiment_id = search(
        lab, {"metrics": metrics, "train_for": 8}, command=True, max_length=None, max_time=9, time_metric="minutes"
    )
    lab.run(experiment_id)
    assert [units for _, units, _ in told(lab)] == [3, 3, 4, 9]


@pytest.mark.parametrize("says", ["pause", "nothing", "both"])
def test_with_a_time_metric_until_is_watched_by_the_controller(lab: Any, says: str) -> None:
    """Workers cannot know when the time is up, so none is held."""
    answers: dict[str, Any] = {"": [["Create", {"until": 3}]]}
    if says != "nothing":
        answers["1@3"] = [["Pause", {"trial_id": 1}]]
    if says == "both":
        answers["1@3"].append(["Resume", {"trial_id": 1, "until": 9}])
    else:
        answers[""] += [["Shutdown", {}]]
    experiment_id = search(
        lab,
        {"metrics": TIMES, "train_for": 8},
        command=True,
        trials=0,
        answers=answers,
        max_length=None,
        max_time=9,
        time_metric="minutes",
    )
    (trial,) = lab.run(experiment_id)["trials"]
    assert trial["batches"] == (8 if says == "both" else 4)
    assert trial["stopped_early"] is (says == "pause")
    with lab.reader() as reader:
        assert len(reader.runs(1, 1)) == 1


@pytest.mark.parametrize(("length", "last"), [(None, 6), (6, 6), (9, 7)])
def test_a_command_that_trains_longer_than_the_searcher_wants_is_ended(lab: Any, length: int | None, last: int) -> None:
    summary = lab.run(search(lab, {"train_for": length} if length else {}, command=True))
    (trial,) = summary["trials"]
    assert (trial["state"], trial["stopped_early"], trial["batches"]) == ("COMPLETED", False, last)
    assert [units for _, units, _ in told(lab)] == [2, 4, 6]


@pytest.mark.parametrize(
    ("length", "epochs", "units"),
    [({"epochs": 3}, 1.9999999, 2), ({"epochs": 3}, 1.5, 1), ({"records": 9}, 1.5, 400), ({"batches": 9}, 1.5, 7)],
)
def test_units_are_those_of_the_length_and_a_part_of_one_does_not_count(
    lab: Any, length: dict[str, int], epochs: float, units: int
) -> None:
    config = lab.config()
    config["searcher"]["max_length"] = length
    lab.submit(config)
    with lab.reader() as reader:
        measure = Measure(ExperimentConfig.from_dict(reader.experiment(1).config))
    event = ValidationCompleted(
        trial_id=1, run=1, batches=7, epochs=epochs, records=400, metrics={"loss": 1.0}, seconds=0.0
    )
    assert measure.units(event) == units


@pytest.mark.parametrize(("bound", "max_slots", "at_once"), [(1, None, 1), (0, 1, 1), (0, None, 2), (5, 3, 2)])
def test_max_concurrent_trials_and_slots_hold_at_every_moment(
    lab: Any, bound: int, max_slots: int | None, at_once: int
) -> None:
    """Trials that pause and are resumed come and go, and none is counted before the one before it has gone."""
    answers = {
        "": [["Create", {"until": 2}] for _ in range(4)],
        **{f"{n}@2": [["Pause", {"trial_id": n}]] for n in (1, 2, 3)},
        "4@2": [["Pause", {"trial_id": 4}], ["Resume", {"trial_id": 4, "until": 6}], ["Create", {}]],
        "5@2": [["Create", {}], ["Create", {}]],
    }
    config = lab.config(launcher="local")
    config["searcher"] |= {"name": "scripted", "answers": answers, "max_concurrent_trials": bound}
    config["resources"] = {"max_slots": max_slots}
    together: set[int] = set()
    most = 0

    def count(event: Any) -> None:
        nonlocal most
        name = type(event).__name__
        if name == "WorkersLaunched":
            assert event.trial_id not in together
            together.add(event.trial_id)
            most = max(most, len(together))
        elif name == "WorkersExited":
            together.discard(event.trial_id)

    follower = importlib.import_module("recording_logger").Recording(count)
    answers["exit 7"] = [["Shutdown", {}]]
    assert lab.run(lab.submit(config, slots=2), [follower])["state"] == "COMPLETED"
    assert most == at_once
