"""`create --mode`, `--checkpoint`, `--validate-only` and `--compile-only`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.experiment import api
from mnist_trials.store import open_reader

PERIODIC = "min_validation_period={batches: 2}"
RANDOM = "searcher={name: random, max_trials: 2, metric: validation_loss, max_length: 8}"


def validations(home: Path, experiment: int) -> list[tuple[int, Any]]:
    with open_reader(home) as reader:
        rows = reader.metrics(experiment, 1)
    return [(row.batches, row.metrics) for row in rows if row.kind == "validation"]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A home with an experiment, its config, and what `create --json` would have printed of it."""
    from tests.cli.conftest import run_program, write_project

    folder = tmp_path_factory.mktemp("modes")
    config = write_project(folder / "project")
    outcome = run_program(["--home", folder / "home", "create", config, "--json", "--config", PERIODIC], {})
    return folder / "home", config, json.loads(outcome.out)


def test_evaluating_a_checkpoint_gives_what_the_validation_in_training_gave(learnt, program) -> None:
    home, config, created = learnt
    (trial,) = created["trials"]
    outcome = program(
        *("--home", home, "create", config, "--mode", "eval", "--checkpoint", trial["latest_checkpoint"], "--json")
    )
    assert outcome.status == 0, outcome.err
    document = outcome.document
    assert document["state"] == "COMPLETED"
    assert document["trials"][0]["batches"] == 8
    number = document["experiment_id"]
    assert document["best"]["metrics"] == validations(home, number)[0][1]
    assert validations(home, number) == [validations(home, 1)[-1]]  # not a bit differs
    with open_reader(home) as reader:
        assert reader.checkpoints(number) == []
        assert reader.experiment(number).options["mode"] == "eval"


@pytest.mark.slow
def test_evaluating_goes_by_the_folder_of_a_checkpoint_too_and_by_what_the_config_names(learnt, cli) -> None:
    home, config, created = learnt
    uuid = created["trials"][0]["latest_checkpoint"]
    folder = next(home.rglob(f"{uuid}/manifest.json")).parent
    for how in (["--checkpoint", folder], ["--config", f"searcher.source_checkpoint_uuid={uuid}"]):
        outcome = cli("--home", home, "create", config, "--mode", "eval", "--launcher", "inline", "--json", *how)
        assert outcome.status == 0, outcome.err
        assert validations(home, outcome.document["experiment_id"]) == [validations(home, 1)[-1]]


def test_training_alone_validates_nothing_and_saves_its_end(learnt, cli) -> None:
    home, config, created = learnt
    outcome = cli(
        *("--home", home, "create", config, "--mode", "train", "--launcher", "inline", "--json", "--config", PERIODIC)
    )
    assert outcome.status == 0, outcome.err
    number = outcome.document["experiment_id"]
    assert validations(home, number) == []
    assert validations(home, 1)
    assert outcome.document["best"] is None
    (trial,) = outcome.document["trials"]
    assert (trial["batches"], trial["state"]) == (8, "COMPLETED")
    assert trial["latest_checkpoint"] != created["trials"][0]["latest_checkpoint"]


def test_training_and_evaluating_is_what_the_config_says(learnt, cli) -> None:
    home, config, created = learnt
    outcome = cli(
        *("--home", home, "create", config, "--mode", "train_and_eval", "--launcher", "inline", "--json"),
        *("--config", PERIODIC),
    )
    assert outcome.status == 0, outcome.err
    assert [batches for batches, _ in validations(home, 1)] == [2, 4, 6, 8]
    assert validations(home, outcome.document["experiment_id"]) == validations(home, 1)
    assert outcome.document["best"]["metrics"] == created["best"]["metrics"]


@pytest.mark.slow
def test_training_alone_validates_where_the_searcher_judges(learnt, cli) -> None:
    home, config, _ = learnt
    searcher = "searcher={name: asha, max_trials: 1, metric: validation_loss, max_length: 8, num_rungs: 2, divisor: 2}"
    outcome = cli(
        *("--home", home, "create", config, "--mode", "train", "--launcher", "inline", "--json"),
        *("--config", searcher, "--config", PERIODIC),
    )
    assert outcome.status == 0, outcome.err
    assert [batches for batches, _ in validations(home, outcome.document["experiment_id"])] == [4, 8]


@pytest.mark.slow
def test_a_fork_of_an_evaluation_is_one_too(learnt, cli) -> None:
    home, config, created = learnt
    uuid = created["trials"][0]["latest_checkpoint"]
    first = api.submit(config, mode="eval", checkpoint=uuid, home=home, launcher="inline")
    second = api.submit_fork(first, home=home)
    api.run(second, home=home)
    assert validations(home, second) == [validations(home, 1)[-1]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "eval"], "the mode eval evaluates a checkpoint, and none is named: give --checkpoint"),
        (["--mode", "evaluate"], "argument --mode: invalid choice: 'evaluate'"),
        (["--mode", "eval", "--config", RANDOM], "evaluates one checkpoint, and the searcher 'random' makes several"),
        (["--checkpoint", "nowhere"], "resume.from: "),
        (["--validate-only", "--compile-only"], "argument --compile-only: not allowed with argument --validate-only"),
    ],
)
def test_what_makes_no_sense_is_refused_and_stores_nothing(
    cli, project: Path, home: Path, arguments: list[str], said: str
) -> None:
    outcome = cli("create", project, *arguments)
    assert outcome.status == 2
    assert said in outcome.err
    assert not home.exists()


def test_a_mode_that_does_not_exist_is_refused_in_python_too(project: Path, home: Path) -> None:
    with pytest.raises(api.UsageError, match=r"there is no mode 'evl'\. Did you mean 'eval'\? Known: train_and_eval"):
        api.submit(project, mode="evl", home=home)  # type: ignore[arg-type]


@pytest.mark.slow
def test_create_that_only_validates_says_what_validate_says(cli, project: Path, home: Path) -> None:
    options = ("--json", "--config", "hyperparameters.width=3")
    only = cli("create", project, "--validate-only", "--name", "mine", *options)
    assert only.status == 0, only.err
    assert only.document["config"]["name"] == "mine"
    assert only.document["trial"]["inspection"]["parameters"] == 4 * 3 + 3
    assert not home.exists()
