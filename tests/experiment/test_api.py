"""The Python API, controllers in the background, and slots."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import MnistTrialsError, StoreError, UsageError
from mnist_trials.experiment import api
from mnist_trials.experiment.home import resolve_home
from mnist_trials.experiment.slots import machine_slots
from mnist_trials.records import TrialState
from mnist_trials.testing.waiting import wait_until

TRIAL = """
import torch
from mnist_trials import Trial

class Line(Trial):
    def build_model(self):
        return torch.nn.Linear(1, 1)

    def build_data(self):
        x = torch.linspace(-1, 1, 64).unsqueeze(1)
        data = torch.utils.data.TensorDataset(x, 3 * x + 1)
        return data, data

    def build_optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=self.context.hparams["lr"], momentum=0.9)

    def train_batch(self, batch, epoch_idx, batch_idx):
        x, y = batch
        if self.context.hparams.get("fail"):
            raise RuntimeError("the user's mistake")
        return ((self.model(x) - y) ** 2).mean()

    def evaluate_batch(self, batch, batch_idx):
        x, y = batch
        return {"validation_loss": ((self.model(x) - y) ** 2).mean()}
"""


def line(lab: Any, launcher: str = "local", **hparams: Any) -> dict[str, Any]:
    (lab.context / "line.py").write_text(TRIAL)
    return {
        "name": "line",
        "entrypoint": "line:Line",
        "hyperparameters": {"lr": 0.1, "global_batch_size": 8, **hparams},
        "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"epochs": 3}},
        "min_validation_period": {"epochs": 1},
        "min_checkpoint_period": {"batches": 5},
        "launcher": launcher,
        "backend": "cpu",
        "max_restarts": 1,
    }


@pytest.mark.parametrize("launcher", ["inline", "local"])
def test_create_runs_a_real_trial_and_its_best_can_be_asked_for(lab: Any, launcher: str) -> None:
    experiment = api.create(line(lab, launcher), lab.context, home=lab.home)
    summary = experiment.wait(timeout=120)
    assert (summary["state"], experiment.state) == ("COMPLETED", "COMPLETED")
    (trial,) = experiment.trials
    assert (trial.batches, trial.epochs, trial.state) == (24, 3.0, TrialState.COMPLETED)
    assert experiment.best == trial
    assert trial.best_checkpoint is not None
    assert experiment.summary() == summary
    assert summary["best"]["value"] == trial.best_metric
    with pytest.raises(UsageError, match="has ended"):
        experiment.pause()


def test_a_fork_starts_as_a_new_experiment_does(lab: Any) -> None:
    first = api.create(line(lab, "inline"), lab.context, home=lab.home)
    fork = first.fork(overrides=["searcher.max_length={epochs: 1}"], name="shorter")
    assert (fork.id, fork.wait(timeout=120)["state"]) == (2, "COMPLETED")
    assert [trial.batches for trial in (*first.trials, *fork.trials)] == [24, 8]
    assert fork.summary()["name"] == "shorter"


def test_a_warm_start_begins_with_the_weights_and_nothing_else(lab: Any) -> None:
    first = api.create(line(lab, "inline"), lab.context, home=lab.home)
    best = first.best
    assert best is not None
    fork = first.fork(
        overrides=["searcher.source_trial_id='1.1'", "searcher.max_length=1", "perform_initial_validation=true"]
    )
    with lab.reader() as reader:
        begin, *_ = reader.metrics(fork.id, 1, "validation")
        latest = reader.metrics(first.id, 1, "validation")[-1]
    assert (begin.batches, begin.metrics) == (0, latest.metrics)


def test_a_trial_that_raises_ends_in_error_with_the_users_traceback(lab: Any) -> None:
    summary = api.create(line(lab, "inline", fail=True), lab.context, home=lab.home).wait(timeout=120)
    assert summary["state"] == "ERROR"
    with lab.reader() as reader:
        trial = reader.trial(1, 1)
    assert trial.message == "RuntimeError: the user's mistake (twice at batch 0: not tried again)"
    assert trial.error is not None
    assert "line.py" in trial.error.traceback
    assert "the user's mistake" in lab.files(1).trial_log(1).read_text()


@pytest.mark.slow
def test_a_controller_in_the_background_outlives_the_process_that_started_it(lab: Any) -> None:
    experiment_id = api.submit(line(lab), lab.context, home=lab.home)
    code = f"from mnist_trials.experiment import api; print(api.detach({experiment_id}, home={str(lab.home)!r}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.fullmatch(r"process \d+\n", told)
    summary = api.wait(experiment_id, home=lab.home, timeout=120)
    assert summary["state"] == "COMPLETED"
    log = lab.files(experiment_id).controller_log
    wait_until(lambda: "COMPLETED" in log.read_text())


def test_a_controller_that_cannot_take_charge_says_why(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment_id = lab.submit()
    monkeypatch.setenv("MNIST_TRIALS_PLUGINS", "no-such-plugin")
    with pytest.raises(UsageError, match=r"The controller did not start: .*no-such-plugin"):
        api.detach(experiment_id, home=lab.home)


def test_a_second_controller_in_the_background_is_refused(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=1))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    with pytest.raises(UsageError, match=f"already being run by process {process.pid}"):
        api.detach(experiment_id, home=lab.home)
    experiment = api.Experiment(experiment_id, lab.home)
    experiment.cancel()
    assert lab.finish(process)["state"] == "CANCELED"


def test_waiting_for_a_controller_that_died_says_so(lab: Any) -> None:
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=1))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    process.kill()
    process.communicate(timeout=60)
    experiment = api.Experiment(experiment_id, lab.home)
    with pytest.raises(MnistTrialsError, match=r"controller of experiment 1 died.*controller\.log"):
        experiment.wait()
    experiment.kill()
    assert experiment.state == "CANCELED"


def test_the_slots_of_the_machine_are_listed_with_who_holds_them(lab: Any) -> None:
    assert all(status.holders == () for status in machine_slots(lab.home))
    experiment_id = lab.submit(lab.config(launcher="local", do="hold", at=1))
    process = lab.start(experiment_id)
    lab.wait_until_holding(experiment_id)
    held = {status.slot.id: status.holders for status in machine_slots(lab.home) if status.holders}
    assert [(holder.experiment_id, holder.trial_id) for holder in held["cpu:0"]] == [(experiment_id, 1)]
    process.kill()
    process.communicate(timeout=60)
    assert not any(status.holders for status in machine_slots(lab.home))


def test_one_trial_gets_all_cores_and_slots_divide_them(lab: Any) -> None:
    from mnist_trials_plugins.backends._shared import cores

    lab.trial()
    with lab.reader() as reader:
        assert reader.runs(1, 1)[0].slots == ("cpu:0",)
    spec = (lab.home / "experiments").rglob("worker-rank0.json")
    assert list(spec) == []  # inline: no process, no file
    lab.trial(launcher="local")
    assert f'"threads": {cores()}' in (lab.files(2).trial(1) / "worker-rank0.json").read_text()


def test_the_home_is_what_is_given_then_the_variable_then_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MNIST_TRIALS_HOME", raising=False)
    assert resolve_home() == tmp_path / ".mnist-trials"
    monkeypatch.setenv("MNIST_TRIALS_HOME", "~/other")
    assert resolve_home() == tmp_path / "other"
    assert resolve_home("relative") == Path.cwd() / "relative"


def test_a_store_of_a_newer_version_stops_every_command(lab: Any) -> None:
    import sqlite3

    lab.submit()
    connection = sqlite3.connect(lab.home / "store.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for command in (lab.submit, lambda: api.run(1, home=lab.home), lambda: api.plan(1, home=lab.home)):
        with pytest.raises(StoreError, match="has version 99"):
            command()


def test_nothing_here_imports_torch() -> None:
    code = (
        "import sys, mnist_trials.experiment.api as api; "
        "from mnist_trials.plugin import get_plugins; get_plugins().plugins(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
