"""An experiment with schedules, a loss scale, limits and histograms, from its config to what is left of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import PluginError
from mnist_trials.plugin import get_plugins
from tests.integration.support import Command

CONFIG = """\
name: watched
entrypoint: mnist_trials.mnist.trials:FCMNIST
hyperparameters:
  global_batch_size: 64
  optimizer: sgd
  learning_rate: 0.1
  hidden_sizes: [16]
  lr_schedule:
    name: sequence
    per: batch
    schedules:
      - {name: linear, steps: 4, total_iters: 4}
      - {name: cosine_decay, total_iters: 12}
data: {name: digits}
searcher:
  name: single
  metric: validation_loss
  max_length: {epochs: 2}
limit_batches: {training: 8, validation: 1}
loss_scale: 256
save_initial_checkpoint: true
checkpoint_storage: {save_trial_latest: 10}
watch: {what: all, every: 5}
loggers: [json_lines]
backend: cpu
"""
PARAMETERS = ["1.weight", "1.bias", "4.weight", "4.bias"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Command:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "experiment.yaml").write_text(CONFIG)
    command = Command(folder / "home", folder)
    document = command.json("create", "experiment.yaml")
    assert (document["state"], document["trials"][0]["batches"]) == ("COMPLETED", 16)
    return command


def test_histograms_of_every_parameter_and_gradient_are_in_the_record(ran: Command) -> None:
    rows = ran.json("metrics", "1.1", "--histograms")
    assert [row["batches"] for row in rows] == [5, 10, 15]
    for row in rows:
        told = [(found["kind"], found["name"]) for found in row["histograms"]]
        assert told == [(kind, name) for kind in ("parameters", "gradients") for name in PARAMETERS]
        assert all(sum(found["counts"]) == found["size"] > 0 for found in row["histograms"])
    assert len(ran("metrics", "1.1", "--histograms").stdout.splitlines()) == 1 + 3 * 8


def test_loggers_are_given_them_too(ran: Command) -> None:
    (log,) = ran.home.glob("experiments/1/loggers/**/events.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    events = [line["event"] for line in lines if line["what"] == "event"]
    found = [event for event in events if event["type"] == "HistogramsReported"]
    assert [event["batches"] for event in found] == [5, 10, 15]


def test_the_trials_performance_is_in_its_folder_and_among_the_trials(ran: Command) -> None:
    (trial,) = ran.json("trials", 1)
    performance: dict[str, Any] = trial["performance"]
    file = ran.home / "experiments" / "1" / "trials" / "1" / "performance.json"
    assert json.loads(file.read_text()) == performance
    assert (performance["runs"], performance["batches"], performance["total_samples"]) == (1, 16, 1024)
    assert 0 < performance["training_seconds"] <= performance["seconds"]


def test_a_checkpoint_of_before_the_first_batch_is_there(ran: Command) -> None:
    assert [row["batches"] for row in ran.json("checkpoints", 1)] == [0, 16]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "trial", "parameters"),
    [("xla", "trials:FCMNIST", PARAMETERS), ("jax", "jax_trials:JaxMLP", ["params.0.weight", "params.2.bias"])],
)
def test_other_backends_tell_of_their_parameters_and_gradients_too(
    ran: Command, backend: str, trial: str, parameters: list[str]
) -> None:
    try:
        get_plugins().find("backend", backend)
    except PluginError as error:
        pytest.skip(str(error))
    changes = [f"backend={backend}", f"entrypoint=mnist_trials.mnist.{trial}", "loss_scale=none"]
    arguments = [word for change in changes for word in ("--config", change)]
    number = ran.json("create", "experiment.yaml", *arguments)["experiment_id"]
    rows = ran.json("metrics", f"{number}.1", "--histograms")
    assert [row["batches"] for row in rows] == [5, 10, 15]
    names = {(found["kind"], found["name"]) for found in rows[0]["histograms"]}
    assert names >= {(kind, name) for kind in ("parameters", "gradients") for name in parameters}
    if backend == "xla":
        for found, alone in zip(rows, ran.json("metrics", "1.1", "--histograms"), strict=True):
            for ours, theirs in zip(found["histograms"], alone["histograms"], strict=True):
                assert ours["mean"] == pytest.approx(theirs["mean"], abs=1e-5)
                assert ours["std"] == pytest.approx(theirs["std"], abs=1e-5)
    performance = ran.json("trials", number)[0]["performance"]
    assert performance["compilations"] > 0
    assert performance["compile_seconds"] > 0


def test_a_trial_on_all_slots_of_the_machine_trains_as_many_batches_and_samples(ran: Command, tmp_path: Path) -> None:
    document = ran.json("create", "experiment.yaml", "--slots", "auto")
    assert document["trials"][0]["batches"] == 16
    (trial,) = ran.json("trials", document["experiment_id"])
    assert trial["performance"]["total_samples"] == 1024
    alone, together = (ran.json("metrics", f"{number}.1")[-1] for number in (1, document["experiment_id"]))
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)
