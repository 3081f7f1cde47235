"""Which checkpoints are kept while experiments run and when they have ended, with real files and fake workers."""

from __future__ import annotations

import importlib
import shutil
import signal
from collections import namedtuple
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.experiment import api
from mnist_trials.experiment.in_use import is_read, reading
from mnist_trials.experiment.removal import Upkeep
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.store import open_store
from mnist_trials.testing.waiting import wait_until
from tests.kept_sets import CASES, METRICS
from tests.storages import Wrapped, directory

LOSSES = {
    str(trial): {str(number - before): loss for number, loss in METRICS.items() if before < number <= before + 5}
    for trial, before in ((1, 0), (2, 5))
}
"""The metrics of each trial by batches; each is saved after each of its 5."""


@pytest.fixture(autouse=True)
def scripted(lab: Any) -> None:
    importlib.import_module("scripted_searcher").install()


def config(lab: Any, best: int, trial_best: int, latest: int, **hparams: Any) -> dict[str, Any]:
    made: dict[str, Any] = lab.config(**hparams)
    storage = {"save_experiment_best": best, "save_trial_best": trial_best, "save_trial_latest": latest}
    return made | {"checkpoint_storage": storage}


def two_trials(lab: Any, counts: tuple[int, int, int], **hparams: Any) -> dict[str, Any]:
    made = config(lab, *counts, length=5, save_each=True, losses=LOSSES, **hparams)
    made["searcher"] |= {"name": "scripted", "answers": {"": [["Create", {}], ["Create", {}]]}}
    return made


def kept(lab: Any, experiment_id: int = 1) -> set[int]:
    """Trial 1 has the checkpoints 1 to 5, trial 2 6 to 10. What is on record is what lies there."""
    with lab.reader() as reader:
        rows = reader.checkpoints(experiment_id)
        trials = reader.trials(experiment_id)
    there = {row.uuid: (row.trial_id - 1) * 5 + row.batches for row in rows if row.state == "COMPLETED"}
    assert {row.state for row in rows} <= {"COMPLETED", "DELETED"}
    folder = lab.files(experiment_id).checkpoints
    assert {path.name for path in folder.iterdir()} == set(there)
    for trial in trials:
        own = [row.uuid for row in rows if row.trial_id == trial.trial_id and row.uuid in there]
        assert trial.latest_checkpoint == (own[-1] if own else None)
        assert trial.best_checkpoint is None or trial.best_checkpoint in own
    return set(there.values())


@pytest.mark.parametrize(("counts", "left"), CASES)
def test_the_union_of_the_three_sets_is_kept(lab: Any, counts: tuple[int, int, int], left: set[int]) -> None:
    summary = lab.run(lab.submit(two_trials(lab, counts)))
    assert summary["state"] == "COMPLETED"
    assert kept(lab) == left
    best = summary["best"]["checkpoint"]
    assert (best is not None) == (7 in left)


def test_while_it_runs_nothing_more_is_kept_than_is_asked_for_or_needed(lab: Any) -> None:
    most: list[int] = []

    def look(event: Any) -> None:
        if type(event).__name__ == "CheckpointSaved":
            with lab.reader() as reader:
                rows = reader.checkpoints(1)
                live = reader.live_trials(1)
            usable = [row.uuid for row in rows if row.state == "COMPLETED"]
            verified = [row.uuid for row in rows if row.state == "COMPLETED" and row.verified]
            assert all(trial.latest_checkpoint in (*usable, None) for trial in live)
            assert event.checkpoint.uuid in usable  # the newest of a trial that has not ended
            most.append(len(verified))

    follower = importlib.import_module("recording_logger").Recording(look)
    lab.run(lab.submit(config(lab, 0, 0, 0, length=9, save_each=True)), [follower])
    assert max(most) <= 2
    assert kept(lab) == set()


def test_what_a_trial_goes_on_from_stays_while_it_is_paused_and_goes_with_its_end(lab: Any) -> None:
    experiment_id = lab.submit(
        config(lab, 0, 0, 0, length=6, do="raise", at=5, in_runs=[1], message="Disk quota exceeded")
    )
    assert lab.run(experiment_id)["state"] == "PAUSED"
    assert kept(lab) == {4}
    assert lab.run(experiment_id)["state"] == "COMPLETED"
    assert kept(lab) == set()


def test_cancelled_while_it_is_paused_it_keeps_what_is_asked_for_only(lab: Any) -> None:
    experiment_id = lab.submit(config(lab, 0, 0, 0, length=6, do="raise", at=5, message="Disk quota exceeded"))
    assert lab.run(experiment_id)["state"] == "PAUSED"
    api.request(experiment_id, "cancel", home=lab.home)
    assert kept(lab) == set()
    with lab.reader() as reader:
        assert reader.experiment(experiment_id).state == "CANCELED"


def test_weights_that_another_trial_begins_with_stay_until_it_has_ended(lab: Any) -> None:
    made = config(lab, 0, 0, 0, length=6)
    answers = {"": [["Create", {}]], "exit 1": [["Create", {"source": 1}]]}
    made["searcher"] |= {"name": "scripted", "answers": answers}
    seen: list[str] = []

    def look(event: Any) -> None:
        if type(event).__name__ == "TrialStarted" and event.trial_id == 2:
            with lab.reader() as reader:
                seen.extend(row.uuid for row in reader.checkpoints(1) if row.state == "COMPLETED")

    follower = importlib.import_module("recording_logger").Recording(look)
    summary = lab.run(lab.submit(made), [follower])
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED", "COMPLETED"]
    assert len(seen) == 1
    assert kept(lab) == set()


def test_what_another_experiment_starts_from_stays(lab: Any) -> None:
    made = config(lab, 0, 0, 1, length=6, do="raise", at=5, in_runs=[1], message="Disk quota exceeded")
    lab.run(lab.submit(made))
    again = lab.config() | {"searcher": lab.config()["searcher"] | {"source_trial_id": "1.1"}}
    second = lab.submit(again)
    assert lab.run(1)["state"] == "COMPLETED"
    assert kept(lab) == {4, 6}
    assert lab.run(second)["state"] == "COMPLETED"


POINTS = ["controller.before_commit", "controller.after_commit", "retention.before_delete", "retention.after_delete"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("hit", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_around_a_deletion_nothing_is_lost_and_nothing_left(lab: Any, point: str, hit: int) -> None:
    experiment_id = lab.submit(two_trials(lab, (1, 0, 1), launcher="local"))
    hits = hit * 12 if point.startswith("controller.") else hit
    first = lab.start(experiment_id, f"{point}:kill:{hits}")
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert lab.finish(lab.start(experiment_id))["state"] == "COMPLETED"
    assert kept(lab) == {5, 7, 10}


def test_what_fails_to_be_deleted_is_tried_again(lab: Any) -> None:
    experiment_id = lab.submit(two_trials(lab, (0, 0, 1), launcher="local"))
    assert lab.finish(lab.start(experiment_id, "retention.before_delete:raise:2"))["state"] == "COMPLETED"
    assert kept(lab) == {5, 10}


def test_what_an_ended_experiment_could_not_delete_the_next_one_of_the_home_does(lab: Any) -> None:
    lab.trial(length=6)
    with lab.reader() as reader:
        first = reader.checkpoints(1)[0]
    with open_store(lab.home) as store, store.transaction() as transaction:
        transaction.give_up_checkpoint(1, 1, first.uuid)
    assert (lab.files(1).checkpoints / first.uuid).is_dir()
    lab.trial(length=2)
    assert kept(lab) == {4, 6}


def test_one_that_is_read_is_deleted_when_it_is_read_no_more(lab: Any) -> None:
    lab.trial(length=2)
    files = lab.files(1)
    (uuid,) = [path.name for path in files.checkpoints.iterdir()]
    assert not is_read(files, uuid)
    with reading(files, uuid):
        assert is_read(files, uuid)
        with reading(files, uuid):
            pass
        assert is_read(files, uuid)
    assert not is_read(files, uuid)
    assert list(files.in_use.iterdir()) == []


class Down(Wrapped):
    """Deletes nothing until it is told otherwise."""

    def __init__(self, storage: CheckpointStorage) -> None:
        super().__init__(storage)
        self.up = False
        self.deleted: list[str] = []

    @override
    def delete(self, checkpoint_id: str) -> None:
        if not self.up:
            raise ConnectionError("nobody answers")
        self.deleted.append(checkpoint_id)


def test_a_storage_that_is_down_is_tried_until_it_is_up_and_nobody_waits_for_it(lab: Any) -> None:
    storage = Down(directory(lab.home))
    upkeep = Upkeep(storage, lambda uuid: False)
    remover = upkeep.remover
    remover.put(["a", "b", "a"])
    wait_until(lambda: remover.cause)
    assert (remover.cause, remover.pending, remover.done()) == ("nobody answers", 2, [])
    remover.drain(0.01)
    storage.up = True
    wait_until(lambda: not remover.pending)
    assert sorted(remover.done()) == [("a", None), ("b", None)]
    assert sorted(storage.deleted) == ["a", "b"]
    upkeep.close()


def test_beyond_the_bytes_allowed_the_worst_and_the_oldest_go(lab: Any) -> None:
    """A checkpoint of the fake worker has 10 bytes on record."""
    made = two_trials(lab, (0, 5, 5))
    made["checkpoint_storage"]["max_checkpoint_bytes"] = 40
    assert lab.run(lab.submit(made))["state"] == "COMPLETED"
    assert kept(lab) == {5, 7, 8, 10}


def test_an_experiment_whose_needed_checkpoints_exceed_the_bytes_allowed_is_paused(lab: Any) -> None:
    made = two_trials(lab, (0, 0, 1))
    made["checkpoint_storage"]["max_checkpoint_bytes"] = 9
    experiment_id = lab.submit(made)
    assert lab.run(experiment_id)["state"] == "PAUSED"
    with lab.reader() as reader:
        message = reader.experiment(experiment_id).message
    assert message.startswith("its checkpoints take 10 bytes, checkpoint_storage.max_checkpoint_bytes allows 9, and")
    api.request(experiment_id, "cancel", home=lab.home)
    assert kept(lab) == set()


Usage = namedtuple("Usage", "total used free")


def test_an_experiment_is_paused_before_the_disk_is_full_and_goes_on_when_there_is_room(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment_id = lab.submit(lab.config(length=6))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - 4 * 10**8, 4 * 10**8))
        summary = lab.run(experiment_id)
    assert (summary["state"], summary["trials"][0]["batches"]) == ("PAUSED", 0)
    with lab.reader() as reader:
        message = reader.experiment(experiment_id).message
    assert message.startswith(f"the disk of {lab.home} has 400 MB left, and 500 MB are kept free")
    assert lab.run(experiment_id)["state"] == "COMPLETED"


def test_a_small_disk_may_be_fuller(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 3 * 10**7, 3 * 10**7))
    assert lab.trial()["state"] == "COMPLETED"


def test_a_source_that_is_given_up_in_the_meantime_is_refused(lab: Any) -> None:
    lab.trial()
    again = lab.config() | {"searcher": lab.config()["searcher"] | {"source_trial_id": "1.1"}}
    submission = importlib.import_module("mnist_trials.experiment.submission")
    checked = submission.check(again, lab.context, home=lab.home)
    with lab.reader() as reader:
        latest = reader.trial(1, 1).latest_checkpoint
    with open_store(lab.home) as store, store.transaction() as transaction:
        transaction.give_up_checkpoint(1, 1, latest)
    with pytest.raises(Exception, match="was given up just now"):
        submission.store_new(lab.home, checked)
    with lab.reader() as reader:
        assert reader.trial(1, 1).latest_checkpoint not in (None, latest)
