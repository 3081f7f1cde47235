"""A new experiment from the config and the code of one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import ConfigError, UsageError
from mnist_trials.experiment import api
from mnist_trials.store import open_store
from mnist_trials.store.rows import ExperimentRow

YAML = """\
entrypoint: fake_trial:Fake
hyperparameters:
  lr: 0.1
searcher:
  name: single
  metric: loss
  max_length: {batches: 4}
backend: cpu
"""


@pytest.fixture
def first(lab: Any, tmp_path: Path) -> int:
    """An experiment that was submitted with everything that can be changed in submitting."""
    path = lab.context / "const.yaml"
    path.write_text(YAML)
    return api.submit(
        path,
        home=lab.home,
        overrides=["hyperparameters.lr=0.5", "max_restarts=1"],
        launcher="inline",
        slots=1,
        data_root=tmp_path,
        test=True,
    )


def row(lab: Any, experiment_id: int) -> ExperimentRow:
    with lab.reader() as reader:
        found: ExperimentRow = reader.experiment(experiment_id)
    return found


def test_a_fork_has_the_config_the_changes_and_the_options_of_its_origin(lab: Any, first: int) -> None:
    fork = row(lab, api.submit_fork(first, home=lab.home))
    origin = row(lab, first)
    assert (fork.id, fork.name, fork.state) == (2, "const", "ACTIVE")
    assert fork.config == origin.config
    kept = {key: value for key, value in origin.options.items() if key not in ("test", "overrides", "owner")}
    own = {key: fork.options[key] for key in ("overrides", "owner")}
    assert fork.options == {**kept, **own, "forked_from": first}
    assert own["owner"] != origin.options["owner"]
    assert lab.files(2).config.read_text() == YAML


def test_what_is_given_comes_on_top(lab: Any, first: int, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    changes = ["hyperparameters.lr=0.7"]
    fork = row(lab, api.submit_fork(first, home=lab.home, overrides=changes, name="mine", data_root=other))
    assert (fork.name, fork.config["hyperparameters"], fork.config["max_restarts"]) == ("mine", {"lr": 0.7}, 1)
    assert fork.options["data_root"] == str(other)


def test_a_fork_of_a_fork_has_the_changes_of_both(lab: Any, first: int) -> None:
    second = api.submit_fork(first, home=lab.home, overrides=["hyperparameters.lr=0.7"], name="mine")
    third = row(lab, api.submit_fork(second, home=lab.home, overrides=["max_restarts=2"]))
    assert (third.name, third.config["hyperparameters"], third.config["max_restarts"]) == ("mine", {"lr": 0.7}, 2)
    assert third.options["forked_from"] == second


def test_a_fork_runs_on_the_code_of_then(lab: Any, first: int) -> None:
    (lab.context / "fake_trial.py").unlink()
    fork = api.submit_fork(first, home=lab.home)
    assert (lab.files(fork).context / "fake_trial.py").exists()
    assert lab.run(fork)["state"] == "COMPLETED"


def test_an_experiment_that_was_given_as_a_map_can_be_forked(lab: Any) -> None:
    first = lab.submit(lab.config(length=4, lr=0.5))
    fork = row(lab, api.submit_fork(first, home=lab.home))
    assert fork.config == row(lab, first).config
    assert lab.run(fork.id)["state"] == "COMPLETED"


def test_an_experiment_of_a_version_that_kept_no_changes_is_forked_from_what_it_ran_with(lab: Any, first: int) -> None:
    with lab.reader() as reader:
        config = reader.experiment(first).config
    with open_store(lab.home) as store, store.transaction() as transaction:
        old = transaction.add_experiment("old", config, {})
    lab.files(first).directory.rename(lab.files(old).directory)
    assert row(lab, api.submit_fork(old, home=lab.home)).config == config


def test_a_mistake_is_told_where_the_kept_config_has_it(lab: Any, first: int) -> None:
    with pytest.raises(ConfigError) as told:
        api.submit_fork(first, home=lab.home, overrides=["entrypoint=fake_trial:Faek", "searcher.metrik=loss"])
    assert "metrik" in str(told.value)
    with lab.reader() as reader:
        assert len(reader.experiments()) == 1


def test_there_must_be_something_to_fork(lab: Any, first: int) -> None:
    with pytest.raises(UsageError, match=r"There is no experiment 7 in .*; there are: 1"):
        api.submit_fork(7, home=lab.home)
