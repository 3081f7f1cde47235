"""A checkpoint takes the place of an earlier one when it was found to be whole where it lies, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.config import ExperimentConfig
from mnist_trials.experiment.keeping import Keeper
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.removal import Upkeep
from mnist_trials.experiment.tidying import tidy_what_others_left
from mnist_trials.experiment.trials import Trials
from mnist_trials.store import Transaction, open_store
from mnist_trials.testing.waiting import wait_until
from tests.storages import Wrapped, directory


def config(lab: Any, latest: int = 1, **given: Any) -> dict[str, Any]:
    made: dict[str, Any] = lab.config(**given)
    storage = {"save_experiment_best": 0, "save_trial_best": 0, "save_trial_latest": latest}
    return made | {"checkpoint_storage": storage}


def by_state(lab: Any, experiment_id: int = 1) -> dict[str, list[int]]:
    """The batches of checkpoints, by their state."""
    found: dict[str, list[int]] = {}
    with lab.reader() as reader:
        for row in reader.checkpoints(experiment_id):
            found.setdefault(row.state, []).append(row.batches)
    return found


def latest(lab: Any, experiment_id: int = 1) -> int:
    with lab.reader() as reader:
        uuid = reader.trial(experiment_id, 1).latest_checkpoint
        (batches,) = [row.batches for row in reader.checkpoints(experiment_id) if row.uuid == uuid]
    return int(batches)


@contextmanager
def transaction(lab: Any) -> Iterator[Transaction]:
    with open_store(lab.home) as store, store.transaction() as begun:
        yield begun


def unverify(lab: Any, batches: int) -> Path:
    """As if its controller had been killed before it was verified; returns where it lies."""
    with lab.reader() as reader:
        (row,) = [row for row in reader.checkpoints(1) if row.batches == batches]
    with transaction(lab) as begun:
        begun.put_checkpoint(replace(row, verified=False))
    return Path(row.location)


@pytest.mark.parametrize("launcher", ["inline", "local"])
def test_one_that_was_damaged_on_its_way_replaces_none_and_is_told(lab: Any, launcher: str) -> None:
    made = config(lab, length=6, launcher=launcher, spoils=6)
    summary = lab.run(lab.submit(made))
    assert summary["state"] == "COMPLETED"
    assert by_state(lab) == {"DELETED": [2], "COMPLETED": [4], "DAMAGED": [6]}
    assert latest(lab) == 4
    assert "is damaged; those before it stay: " in lab.notices()
    assert "state.json has 7 bytes and must have" in lab.notices()


def test_a_trial_goes_on_from_the_one_before_a_damaged_one(lab: Any) -> None:
    made = config(lab, length=8, launcher="local", spoils=6, do="kill", at=7, in_runs=[1])
    summary = lab.run(lab.submit(made))
    assert (summary["state"], summary["trials"][0]["restarts"]) == ("COMPLETED", 1)
    assert "failed at batch 7" in lab.notices()
    with lab.reader() as reader:
        assert [run.start_batches for run in reader.runs(1, 1)] == [0, 4]


def test_what_is_verified_is_on_record(lab: Any) -> None:
    lab.run(lab.submit(config(lab, 2)))
    with lab.reader() as reader:
        assert {row.batches: row.verified for row in reader.checkpoints(1) if row.state == "COMPLETED"} == {
            4: True,
            6: True,
        }


def test_nothing_is_given_up_before_the_newer_one_is_verified(lab: Any) -> None:
    lab.run(lab.submit(config(lab, 1000, length=4)))
    unverify(lab, 4)
    keeper = Keeper(1, ExperimentConfig.from_dict(lab.config() | config(lab)), Trials())
    with lab.reader() as reader:
        ids = {row.batches: row.uuid for row in reader.checkpoints(1)}
    with transaction(lab) as begun:
        assert keeper.review(begun) == []
        assert keeper.unverified() == [ids[4]]
        assert keeper.unverified() == []
        assert keeper.verified(begun, [(ids[4], "")]) == []
        assert keeper.review(begun) == [ids[2]]
        assert keeper.verified(begun, [(ids[4], "")]) == []


@pytest.mark.parametrize("spoilt", [False, True])
def test_what_an_ended_experiment_could_not_verify_the_next_one_of_the_home_does(lab: Any, spoilt: bool) -> None:
    lab.run(lab.submit(config(lab, 1000, length=4)))
    place = unverify(lab, 4)
    if spoilt:
        (place / "state.json").write_text("cut off")
    lab.trial(length=2)
    assert by_state(lab) == ({"COMPLETED": [2], "DAMAGED": [4]} if spoilt else {"COMPLETED": [2, 4]})
    assert latest(lab) == (2 if spoilt else 4)
    assert ("is damaged; those before it stay" in lab.notices()) == spoilt


def test_it_spends_little_time_on_those_of_others(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        lab.run(lab.submit(config(lab, length=2)))
    with transaction(lab) as begun, lab.reader() as reader:
        for experiment_id in (1, 2, 3):
            (row,) = reader.checkpoints(experiment_id)
            begun.put_checkpoint(replace(row, verified=False))
    monkeypatch.setattr("mnist_trials.experiment.tidying.OTHERS_SECONDS", 0.0)
    left = []
    with open_store(lab.home) as store, lab.reader() as reader:
        for _ in range(3):
            tidy_what_others_left(store, reader)
            left.append(len(reader.ended_untidily()))
    assert left == [2, 1, 0]


class Silent(Wrapped):
    """Tells nothing of a checkpoint until it is up."""

    up = False

    @override
    def examine(self, checkpoint_id: str) -> Any:
        if not self.up:
            raise ConnectionError("nobody answers")
        return super().examine(checkpoint_id)


def test_a_storage_that_does_not_answer_is_asked_until_it_does(lab: Any) -> None:
    lab.run(lab.submit(config(lab, length=2)))
    (path,) = lab.files(1).checkpoints.iterdir()
    storage = Silent(directory(path.parent))
    upkeep = Upkeep(storage, lambda uuid: False)
    upkeep.verifier.put([path.name])
    wait_until(lambda: upkeep.verifier.cause)
    assert (upkeep.verifier.cause, upkeep.verifier.pending, upkeep.verifier.done()) == ("nobody answers", 1, [])
    storage.up = True
    wait_until(lambda: not upkeep.verifier.pending)
    assert upkeep.verifier.done() == [(path.name, "")]
    upkeep.close()


def test_a_trial_needs_what_it_could_go_on_from_if_the_unverified_are_damaged(lab: Any) -> None:
    lab.run(lab.submit(config(lab, 1000)))
    with lab.reader() as reader:
        trial = LiveTrial(replace(reader.trial(1, 1), judged_batches=4), checkpoints=[(2, "a"), (4, "b"), (6, "c")])
    assert [uuid for uuid in "abc" if trial.needs(uuid)] == ["b", "c"]  # where it was judged, and the latest
    assert [uuid for uuid in "abc" if trial.needs(uuid, {"c"})] == ["b"]
    assert [uuid for uuid in "abc" if trial.needs(uuid, {"b", "c"})] == ["a"]
    assert [uuid for uuid in "abc" if trial.needs(uuid, {"a", "b", "c"})] == []
