"""The controller is killed in the midst of a search that pauses, promotes and copies; the next one decides the same."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.experiment import api
from mnist_trials.records import Outcome, TrialState
from mnist_trials.store import open_store
from mnist_trials.store.rows import TrialRow
from mnist_trials.testing.waiting import wait_until


@pytest.fixture(autouse=True)
def scripted(lab: Any) -> None:
    importlib.import_module("scripted_searcher").install()


def do(name: str, *values: Any, **more: Any) -> list[Any]:
    keys = {
        "Resume": ("trial_id", "until"),
        "Pause": ("trial_id",),
        "Stop": ("trial_id",),
        "Create": (),
        "Shutdown": ("why",),
    }[name]
    return [name, dict(zip(keys, values, strict=False)) | more]


# One trial at a time, so that the order of events is settled. Trial 3 is promoted where it is held; 1 is resumed from
# its rest, then copied; 3 is resumed; 2 rests to the end.
ANSWERS = {
    "": [do("Create", until=2)] * 3,
    "1@2": [do("Pause", 1, why="first")],
    "2@2": [do("Pause", 2)],
    "3@2": [do("Pause", 3), do("Resume", 3, 4)],
    "3@4": [do("Pause", 3), do("Resume", 1, 4)],
    "1@4": [do("Pause", 1), do("Create", source=1, until=2)],
    "4@2": [do("Pause", 4), do("Resume", 3, 6)],
    "exit 3": [do("Shutdown", "enough")],
}
POINTS = (
    "controller.before_transaction",
    "controller.before_commit",
    "controller.after_commit",
    "controller.after_acting",
)
STEPS = 76  # of the search at least; a few more where progress is stored
EVERY = {"controller.before_commit": 1, "controller.after_commit": 3}
QUICK = {  # these are run each time; the later ones are give or take one, as progress is stored by the clock
    ("controller.before_commit", 21),  # a pause is decided, and lost
    ("controller.after_commit", 33),  # a promotion is decided, and the trial neither told nor saved
    ("controller.after_commit", 49),  # a copy is decided, and its source is not saved yet
    ("controller.after_acting", 66),  # the last trial is to be promoted from its rest
    ("controller.after_acting", STEPS),  # all is over
}


def submit(lab: Any, *, padding: int = 6500, **hparams: Any) -> int:
    config = lab.config(launcher="local", save_every=100, **hparams)
    # A snapshot is stored with the first decision, and then with every seventh only.
    config["searcher"] |= {"name": "scripted", "answers": ANSWERS, "padding": padding}
    return lab.submit(config, slots=1)  # type: ignore[no-any-return]


def decisions(lab: Any, experiment_id: int) -> list[Any]:
    with lab.reader() as reader:
        return [replace(row, id=0, sequence=0, time=0.0) for row in reader.decisions(experiment_id)]


def trials(lab: Any, experiment_id: int) -> list[TrialRow]:
    with lab.reader() as reader:
        return [
            replace(row, experiment_id=1, best_checkpoint=None, latest_checkpoint=None)
            for row in reader.trials(experiment_id)
        ]


def check_that_it_ended_as_undisturbed(lab: Any, experiment_id: int, undisturbed: Any) -> None:
    assert decisions(lab, experiment_id) == decisions(undisturbed, 1)
    assert trials(lab, experiment_id) == trials(undisturbed, 1)
    for trial in trials(undisturbed, 1):
        assert lab.values(experiment_id, trial.trial_id) == undisturbed.values(1, trial.trial_id)
    with lab.reader() as reader:
        assert reader.experiment(experiment_id).message == "enough"
        assert reader.open_runs(experiment_id) == []


def test_the_undisturbed_search_does_all_that_it_is_to_be_disturbed_in(undisturbed: Any) -> None:
    assert [(row.event, row.trial_id, row.units) for row in decisions(undisturbed, 1)] == [
        ("initial_trials", None, None),
        ("validation_completed", 1, 2),
        ("validation_completed", 2, 2),
        ("validation_completed", 3, 2),
        ("validation_completed", 3, 4),
        ("validation_completed", 1, 4),
        ("validation_completed", 4, 2),
        ("validation_completed", 3, 6),
        ("trial_exited", 3, None),
    ]
    assert [(row.state, row.batches, row.stopped_early) for row in trials(undisturbed, 1)] == [
        (TrialState.COMPLETED, 4, True),
        (TrialState.COMPLETED, 2, True),
        (TrialState.COMPLETED, 6, False),
        (TrialState.COMPLETED, 2, True),
    ]


@pytest.fixture(scope="module")
def undisturbed(another_lab: Any) -> Iterator[Any]:
    """A lab whose experiment 1 is the search as it goes when nobody disturbs it."""
    with pytest.MonkeyPatch.context() as patch:
        lab = another_lab(patch)
        importlib.import_module("scripted_searcher").install()
        lab.run(submit(lab))
        yield lab


def cases() -> list[Any]:
    every = [(point, hit) for point in POINTS for hit in range(1, STEPS + 1, EVERY.get(point, 9))]
    return [
        pytest.param(point, hit, marks=[] if (point, hit) in QUICK else [pytest.mark.slow])
        for point, hit in sorted({*every, *QUICK})
    ]


@pytest.mark.parametrize(("point", "hit"), cases())
def test_killed_at_any_point_the_search_ends_with_the_same_decisions(
    lab: Any, undisturbed: Any, point: str, hit: int
) -> None:
    first = lab.start(experiment_id := submit(lab), f"{point}:kill:{hit}")
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert lab.finish(lab.start(experiment_id))["state"] == "COMPLETED"
    check_that_it_ended_as_undisturbed(lab, experiment_id, undisturbed)


def snapshots(lab: Any, experiment_id: int) -> int:
    """The id of the decision after which the last snapshot was stored."""
    with lab.reader() as reader:
        _, _, after = reader.searcher(experiment_id)
    return int(after)


def cut_off(lab: Any) -> Any:
    """A search whose controller died where there was no snapshot: after 7 decisions, 6 to be replayed."""
    first = lab.start(submit(lab, do="hold", at=5, in_trials=[3], in_runs=[1, 2]))
    lab.wait_until_holding(1)
    first.kill()
    first.communicate(timeout=60)
    assert (len(decisions(lab, 1)), snapshots(lab, 1)) == (7, 1)


def test_a_snapshot_is_stored_now_and_then_and_what_came_after_is_replayed(lab: Any, undisturbed: Any) -> None:
    cut_off(lab)
    assert lab.run(1)["state"] == "COMPLETED"
    assert decisions(lab, 1) == decisions(undisturbed, 1)


def test_a_small_searcher_has_a_snapshot_stored_with_every_decision(lab: Any) -> None:
    first = lab.start(submit(lab, padding=0, do="hold", at=5, in_trials=[3], in_runs=[1, 2]))
    lab.wait_until_holding(1)
    first.kill()
    first.communicate(timeout=60)
    assert snapshots(lab, 1) == 7


def everything(lab: Any) -> list[tuple[Any, ...]]:
    """All rows of the store."""
    import sqlite3

    with sqlite3.connect(lab.home / "store.sqlite") as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [row for table in tables for row in connection.execute(f"SELECT * FROM {table}")]


OTHERWISE: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {"3@4": [do("Pause", 3), do("Resume", 2, 4)]},
        "on validation_completed of trial 3 it answered [Pause(trial_id=3), Resume(trial_id=1, until=4)], "
        "and now [Pause(trial_id=3), Resume(trial_id=2, until=4)]",
    ),
    ({"3@4": [do("Pause", 3)]}, "and now [Pause(trial_id=3)]"),
    ({"1@4": [do("Pause", 1), do("Create", until=2)]}, "Create(trial_id=4, until=2, source=1)], and now"),
)


def test_a_searcher_that_decides_otherwise_is_refused_and_leaves_all_as_it_was(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(lab)
    before, plan = everything(lab), api.plan(1, home=lab.home).trials
    module = importlib.import_module("scripted_searcher")
    answer = module.Scripted.answer
    for change, told in OTHERWISE:

        def changed(self: Any, key: str, change: dict[str, Any] = change) -> Any:
            if key in change:
                self.config["answers"] = self.config["answers"] | change
            return answer(self, key)

        with monkeypatch.context() as patch:
            patch.setattr(module.Scripted, "answer", changed)
            with pytest.raises(PluginError) as caught:
                lab.run(1)
        assert "The searcher 'scripted' decides otherwise than it did" in str(caught.value)
        assert told in str(caught.value)
        assert caught.value.exit_status == 2
        assert everything(lab) == before
        assert api.plan(1, home=lab.home).trials == plan
    assert lab.run(1)["state"] == "COMPLETED"


def test_why_the_search_ended_early_is_still_known_after_its_controller_died(lab: Any) -> None:
    config = lab.config(launcher="local", do="hold", at=3, in_runs=[1])
    answers = {"": [do("Create")], "1@2": [do("Shutdown", "all is known")]}
    config["searcher"] |= {"name": "scripted", "answers": answers}
    process = lab.start(lab.submit(config))
    lab.wait_until_holding(1)
    process.kill()
    process.communicate(timeout=60)
    lab.run(1)
    with lab.reader() as reader:
        assert reader.experiment(1).message == "all is known"


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.PAUSED])
def test_two_runs_that_ended_with_their_controller_are_closed_though_one_stops_the_other(
    lab: Any, outcome: Outcome
) -> None:
    config = lab.config(launcher="local", do="hold", at=3, in_runs=[1])
    answers = {"": [do("Create")] * 2, "exit 1": [do("Stop", 2)]}
    config["searcher"] |= {"name": "scripted", "answers": answers}
    process = lab.start(lab.submit(config, slots=2))
    wait_until(lambda: lab.notices(1).count("holding") == 2)
    process.kill()
    process.communicate(timeout=60)
    with lab.reader() as reader, open_store(lab.home) as store, store.transaction() as transaction:
        first, second = (reader.runs(1, number)[0] for number in (1, 2))
        transaction.put_run(1, replace(first, outcome=Outcome.COMPLETED))
        transaction.put_run(1, replace(second, outcome=outcome))
    summary = lab.run(1)
    assert [trial["state"] for trial in summary["trials"]] == ["COMPLETED"] * 2
    assert summary["trials"][1]["stopped_early"] is (outcome is Outcome.PAUSED)
    assert [(row.event, row.trial_id) for row in decisions(lab, 1)][-2:] == [("trial_exited", 1), ("trial_exited", 2)]
    with lab.reader() as reader:
        assert reader.open_runs(1) == []
        assert len(reader.runs(1, 2)) == 1
