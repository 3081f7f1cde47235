from __future__ import annotations

import importlib
from typing import Any

import pytest


def recording(*arguments: Any) -> Any:
    return importlib.import_module("recording_logger").Recording(*arguments)


def test_followers_see_everything_in_order_and_only_what_is_stored(lab: Any) -> None:
    stored: list[int] = []

    def look(event: Any) -> None:
        if type(event).__name__ == "ValidationCompleted":
            with lab.reader() as reader:
                stored.append(reader.metrics(1, 1, "validation")[-1].batches)

    follower = recording(look)
    experiment_id = lab.submit(lab.config(length=4))
    summary = lab.run(experiment_id, [follower])
    names = [name for name, _ in follower.calls if name != "ProgressReported"]
    assert names == [
        "start",
        "trial_created",
        "WorkersLaunched",
        "TrialStarted",
        "DatasetChosen",
        "MetricsReported",
        "MetricsReported",
        "ValidationCompleted",
        "CheckpointSaved",
        "MetricsReported",
        "MetricsReported",
        "ValidationCompleted",
        "CheckpointSaved",
        "TrialExited",
        "WorkersExited",
        "finish",
    ]
    assert [name for name, _ in follower.calls].count("ProgressReported") == 4
    assert stored == [2, 4]
    context, told = follower.calls[0][1], follower.calls[-1][1]
    assert (context.experiment_id, context.name, context.directory.is_dir()) == (experiment_id, "fake", True)
    assert told == summary


def test_notices_of_the_controller_reach_followers(lab: Any) -> None:
    follower = recording()
    lab.run(lab.submit(lab.config(do="raise", at=3, in_runs=[1])), [follower])
    (notice,) = [event for name, event in follower.calls if name == "Notice"]
    assert (notice.trial_id, notice.run) == (1, 1)
    assert "it goes on from batch 2" in notice.message


@pytest.mark.parametrize("place", ["start", "trial_created", "event", "finish"])
def test_a_follower_that_fails_is_dropped_with_a_notice_and_the_others_go_on(
    lab: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no connection")

    broken, sound = recording(), recording()
    monkeypatch.setattr(broken, place, fail)
    assert lab.run(lab.submit(), [broken, sound])["state"] == "COMPLETED"
    assert lab.notices().count("the logger Recording failed and was dropped: OSError: no connection") == 1
    assert sound.calls[-1][0] == "finish"


def test_the_loggers_of_the_config_follow_too(lab: Any) -> None:
    config = lab.config() | {"loggers": ["json_lines"]}
    lab.run(lab.submit(config))
    assert any(lab.files(1).logger_files.iterdir())
