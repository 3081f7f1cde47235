"""Whole searches, with a process for every trial: what is decided, who runs when, and what a kill changes (nothing)."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.testing.waiting import wait_until
from tests.integration.support import DEADLINE, ROOT, Command, mnist_root, needs_mnist, write_config
from tests.integration.test_nothing_is_lost import worker_of

Write = Callable[..., Path]

SPACE = {
    "hidden_sizes": [16],
    "optimizer": "sgd",
    "learning_rate": {"type": "log", "base": 10, "minval": -4, "maxval": 0},
    "global_batch_size": 100,
}
STOPPING = {
    "name": "asha",
    "metric": "validation_loss",
    "max_length": {"batches": 45},
    "num_rungs": 3,
    "divisor": 3,
    "max_trials": 6,
    "max_concurrent_trials": 2,
}
PROMOTING = STOPPING | {"stop_once": False, "max_trials": 3, "max_concurrent_trials": 1, "divisor": 2}


def search(written: Write, searcher: dict[str, Any], **changes: Any) -> Path:
    """Its validation period is longer than a trial: all validations are those that the rungs ask for."""
    period = {"min_validation_period": {"batches": 100}, "min_checkpoint_period": {"batches": 4}}
    return written(**{"hyperparameters": SPACE, "searcher": searcher, **period, **changes})


def outcome(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What became of each trial."""
    return [
        (trial["trial_id"], trial["hyperparameters"], trial["state"], trial["stopped_early"], trial["best_metric"])
        for trial in document["trials"]
    ]


def decided(command: Command, experiment: int) -> list[tuple[Any, ...]]:
    """What the searcher was told and what it answered, without times."""
    document = command.json("decisions", experiment)
    return [
        (entry["event"], entry["trial_id"], entry["units"], entry["metric"], entry["actions"])
        for entry in document["decisions"]
    ]


def stored(command: Command, query: str) -> list[tuple[Any, ...]]:
    """What the store of experiment 1 holds, once it is there."""
    with closing(sqlite3.connect(f"file:{command.home / 'store.sqlite'}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def most_at_once(command: Command) -> int:
    """The most runs that were on at one time."""
    rows = stored(command, "SELECT started, ended FROM runs WHERE experiment_id = 1")
    changes = sorted([(ended, -1) for _, ended in rows] + [(started, 1) for started, _ in rows])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def second_trial_begun(command: Command) -> None:
    """Wait until two trials of experiment 1 have started."""

    def begun() -> bool:
        with suppress(sqlite3.OperationalError):  # no store yet
            return stored(command, "SELECT count(DISTINCT trial_id) FROM runs WHERE experiment_id = 1")[0][0] == 2
        return False

    wait_until(begun, DEADLINE)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any]]:
    """How a search with promotions ends that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = Command(folder / "home", folder)
    config = search(partial(write_config, folder), PROMOTING)
    document = command.json("create", config)
    return outcome(document), decided(command, 1)


def test_a_search_stops_trials_at_rungs_and_can_explain_every_stop(command: Command, written: Write) -> None:
    document = command.json("create", search(written, STOPPING), "--slots", 2)
    assert document["state"] == "COMPLETED"
    trials = {trial["trial_id"]: trial for trial in document["trials"]}
    assert sorted(trials) == [1, 2, 3, 4, 5, 6]
    assert {trial["state"] for trial in trials.values()} == {"COMPLETED"}
    assert most_at_once(command) == 2
    stops = {
        action["trial_id"]: action["why"]
        for _, _, _, _, actions in decided(command, 1)
        for action in actions
        if action["action"] == "Stop"
    }
    assert stops, "six trials on three rungs, and none was stopped"
    assert {trial_id for trial_id, trial in trials.items() if trial["stopped_early"]} == set(stops)
    told = command("decisions", 1).stdout
    for trial_id, why in stops.items():
        assert why["rank"] > why["kept"] >= 1
        assert why["units"] in (5, 15)
        assert trials[trial_id]["batches"] < 45
        assert f"rank {why['rank']} of {why['of']}" in told
    for trial_id in trials:
        validated = [
            batches
            for (batches,) in stored(
                command,
                "SELECT batches FROM metrics WHERE experiment_id = 1 AND kind = 'validation' AND NOT superseded "
                f"AND trial_id = {trial_id} ORDER BY batches",
            )
        ]
        assert validated == [5, 15, 45][: len(validated)], "validations lie exactly on the rungs"
    assert document["best"]["value"] == min(trial["best_metric"] for trial in trials.values())


def test_promoted_trials_go_on_from_their_rung_and_no_other_batch_is_trained(
    promoted: tuple[list[Any], list[Any]],
) -> None:
    trials, decisions = promoted
    assert len(trials) == 3
    assert {state for _, _, state, _, _ in trials} == {"COMPLETED"}
    reports = [(trial_id, units) for event, trial_id, units, _, _ in decisions if event == "validation_completed"]
    assert len(reports) == len(set(reports)), "no rung is reported twice"
    assert {units for _, units in reports} == {11, 22, 45}
    assert sum(units == 45 for _, units in reports) >= 1
    resumed = [a for _, _, _, _, actions in decisions for a in actions if a["action"] == "Resume"]
    assert all(action["why"]["rank"] <= action["why"]["kept"] for action in resumed)


@pytest.mark.slow
def test_a_search_whose_controller_and_worker_are_killed_ends_as_if_undisturbed(
    command: Command, written: Write, promoted: tuple[list[Any], list[Any]]
) -> None:
    config = search(written, PROMOTING)
    with command.running("create", config, "--json") as running:
        os.kill(worker_of(command, 1), signal.SIGKILL)
        second_trial_begun(command)
        running.kill()
        running.communicate(timeout=DEADLINE)
    assert command.json("activate", 1)["state"] == "COMPLETED"
    assert (outcome(command.json("describe", 1)), decided(command, 1)) == promoted


@pytest.mark.slow
def test_a_search_that_is_paused_and_activated_ends_as_if_undisturbed(
    command: Command, written: Write, promoted: tuple[list[Any], list[Any]]
) -> None:
    config = search(written, PROMOTING)
    with command.running("create", config, "--json") as running:
        second_trial_begun(command)
        command("pause", 1)
        running.communicate(timeout=DEADLINE)
        assert running.returncode == 130
    assert command.json("describe", 1)["state"] == "PAUSED"
    assert command.json("activate", 1)["state"] == "COMPLETED"
    assert (outcome(command.json("describe", 1)), decided(command, 1)) == promoted


@pytest.mark.parametrize("word", [pytest.param("cancel", marks=pytest.mark.slow), "kill"])
def test_a_search_that_a_person_ends_has_no_trial_left_that_could_run(
    command: Command, written: Write, word: str
) -> None:
    with command.running("create", search(written, PROMOTING)) as running:
        second_trial_begun(command)
        command(word, 1)
        running.communicate(timeout=DEADLINE)
        assert running.returncode == 3
    document = command.json("describe", 1)
    assert document["state"] == "CANCELED"
    assert {trial["state"] for trial in document["trials"]} <= {"CANCELED", "COMPLETED"}


@pytest.mark.slow
def test_a_fork_with_other_hyperparameters_starts_warm_from_a_trial(command: Command, written: Write) -> None:
    first = command.json("create", written())
    changes = ("searcher.source_trial_id=1.1", "hyperparameters.learning_rate=0.01", "perform_initial_validation=true")
    given = [word for change in changes for word in ("--config", change)]
    warm = command.json("fork", 1, *given, "--config", "searcher.max_length={batches: 2}")
    (trial,) = warm["trials"]
    assert (warm["experiment_id"], warm["state"], trial["batches"]) == (2, "COMPLETED", 2)
    assert trial["hyperparameters"]["learning_rate"] == 0.01
    begin = next(row for row in command.json("metrics", "2.1") if row["kind"] == "validation")
    assert (begin["batches"], begin["metrics"]) == (0, command.json("metrics", "1.1")[-1]["metrics"])
    assert "  forked from experiment 1\n" in command("describe", 2).stdout
    assert first == command.json("describe", 1)


@pytest.mark.slow
@needs_mnist
@pytest.mark.parametrize("name", ["adaptive", "dist_random"])
def test_the_searches_of_the_tutorial_find_a_good_network(command: Command, name: str) -> None:
    config = ROOT / "experiment_configs" / f"{name}.yaml"
    document = command.json("create", config, "--data-root", mnist_root(), "--slots", 2)
    assert (document["state"], document["dataset"]) == ("COMPLETED", "mnist")
    assert len(document["trials"]) == (16 if name == "adaptive" else 4)
    assert document["best"]["value"] == max(trial["best_metric"] for trial in document["trials"])
    assert document["best"]["value"] >= 0.97
    assert most_at_once(command) == 2
