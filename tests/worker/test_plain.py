"""What a plain script's trial is made from."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.config import trial_seed
from mnist_trials.errors import ConfigError, PluginError, UsageError
from mnist_trials.events import (
    CheckpointRejected,
    DatasetChosen,
    MetricsReported,
    Notice,
    ProgressReported,
    TrialExited,
    TrialStarted,
    ValidationCompleted,
)
from mnist_trials.plugin import WorkerSpec
from mnist_trials.records import Outcome
from mnist_trials.worker.console import ConsoleChannel
from mnist_trials.worker.init import in_experiment
from mnist_trials.worker.plain import Source, plain_spec
from mnist_trials_plugins.backends.xla import why_not

CONFIG: dict[str, Any] = {
    "entrypoint": "model:Tiny",
    "hyperparameters": {
        "lr": {"type": "log", "minval": -3, "maxval": -1},
        "model": {"hidden": {"type": "categorical", "vals": [10, 20]}, "bias": True},
        "batch_size": 64,
        "optimizer": {"type": "const", "val": {"name": "sgd"}},
    },
    "searcher": {"name": "random", "metric": "loss", "max_trials": 2, "max_length": {"batches": 1}},
    "reproducibility": {"experiment_seed": 7},
}


needs_xla = pytest.mark.skipif(why_not() is not None, reason=f"no PyTorch/XLA here: {why_not()}")

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture(autouse=True)
def _script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "--epochs", "1"])
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path))
    for name in ("MNIST_TRIALS_DATA", *TORCHRUN):
        monkeypatch.delenv(name, raising=False)


def made(
    hparams: dict[str, Any] | None = None,
    source: Source | None = None,
    seed: int | None = None,
    data_root: str | None = None,
) -> WorkerSpec:
    return plain_spec(hparams or {}, source, seed, data_root)[0]


def test_without_a_config_the_hyperparameters_are_those_given(tmp_path: Path) -> None:
    spec = made({"lr": 0.1})
    assert spec.hparams == {"lr": 0.1}
    assert (spec.experiment_id, spec.seed, spec.data_root) == (0, trial_seed(0, 1), None)
    assert spec.checkpoint_root == str(tmp_path / "scripts" / "train" / "checkpoints")
    assert not in_experiment()


def test_constants_of_a_config_are_taken_and_what_is_given_goes_before_them() -> None:
    spec = made({"lr": 0.1, "model": {"hidden": 5}}, CONFIG)
    assert spec.hparams == {
        "lr": 0.1,
        "model": {"hidden": 5, "bias": True},
        "batch_size": 64,
        "optimizer": {"name": "sgd"},
    }
    assert spec.seed == trial_seed(7, 1)


@pytest.mark.parametrize(
    ("given", "missing"), [({}, "lr, model.hidden"), ({"lr": 1}, "model.hidden"), ({"model": {"hidden": 5}}, "lr")]
)
def test_a_range_without_a_value_is_named(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(given, CONFIG)
    name = "model" if missing.startswith("model") else "lr"
    assert str(caught.value) == (
        f"The config leaves {missing} to a search, and a script has none: give a value for each, as in "
        f"mt.init(config=..., hparams={{'{name}': ...}}), or run it with `mnist-trials create`."
    )


def test_a_config_with_a_mistake_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "entrypoint: model:Tiny\nsearcher: {name: single, metric: loss}\nbackendd: cpu\n"
    )
    with pytest.raises(ConfigError, match=r"bad\.yaml:3:1: .*backendd"):
        made(source=tmp_path / "bad.yaml")


def test_seed_and_data_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_TRIALS_DATA", "/data/of/all")
    assert made().data_root == "/data/of/all"
    spec = made(seed=3, data_root="/data/mine")
    assert (spec.seed, spec.data_root) == (3, "/data/mine")


def test_the_backend_is_the_configs() -> None:
    assert made({"lr": 1, "model": {"hidden": 1}}, {**CONFIG, "backend": "cpu"}).slot.backend == "cpu"
    with pytest.raises(PluginError, match="No backend is named 'cpuu'"):
        made({"lr": 1, "model": {"hidden": 1}}, {**CONFIG, "backend": "cpuu"})


@pytest.mark.parametrize("said", [("1", "2"), ("1", "2", "1", "2"), ("3", "4", "1", "2")])
def test_under_torchrun_it_is_the_rank_that_torchrun_says(monkeypatch: pytest.MonkeyPatch, said: Sequence[str]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    for name, value in zip(TORCHRUN, said, strict=False):
        monkeypatch.setenv(name, value)
    spec = made(source={**CONFIG, "backend": "cpu"}, hparams={"lr": 1, "model": {"hidden": 1}})
    assert (spec.rank, spec.size, spec.rendezvous) == (int(said[0]), int(said[1]), "env://")
    assert [slot.id for slot in spec.slots] == ["cpu:1"]
    assert spec.environment["OMP_NUM_THREADS"] == "1"


def test_one_rank_of_torchrun_is_a_plain_script(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(TORCHRUN, ("0", "1", "0", "1"), strict=True):
        monkeypatch.setenv(name, value)
    spec = made()
    assert (spec.rank, spec.size, spec.rendezvous) == (0, 1, "")


@pytest.mark.parametrize("said", [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "")])
def test_variables_that_are_no_place_in_a_group_are_refused(
    monkeypatch: pytest.MonkeyPatch, said: Sequence[str]
) -> None:
    for name, value in zip(TORCHRUN, said, strict=False):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"says RANK={said[0]}, WORLD_SIZE={said[1]}, .* Unset RANK and WORLD_SIZE"):
        made()


def test_where_another_rank_tells_this_one_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    channel = ConsoleChannel()
    channel.silent = True
    channel.emit(Notice(trial_id=1, run=1, message="look"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("passed_on", [True, False])
def test_the_same_ctrl_c_may_come_twice_where_it_is_passed_on(passed_on: bool) -> None:
    channel = ConsoleChannel()
    with channel.interruptible(passed_on=passed_on):
        signal.raise_signal(signal.SIGINT)
        assert channel.interrupted
        if passed_on:
            signal.raise_signal(signal.SIGINT)
        else:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


def test_a_trial_is_told_on_the_screen_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    who: dict[str, Any] = {"trial_id": 1, "run": 1}
    where: dict[str, Any] = {**who, "batches": 20, "epochs": 0.5, "records": 160}
    channel = ConsoleChannel()
    channel.emit(TrialStarted(**who, pid=1, host="h", backend="cpu", device="cpu", batches=10, checkpoint="c"))
    channel.emit(CheckpointRejected(**who, uuid="abc", reason="damaged"))
    channel.emit(DatasetChosen(**who, dataset="digits", detail="1,797 images", fallback=True))
    channel.emit(Notice(**who, message="look"))
    channel.emit(MetricsReported(**where, metrics={"loss": 0.123456, "worst": None}, seconds=1.0))
    channel.emit(ProgressReported(**where, total_batches=40))
    channel.emit(ValidationCompleted(**where, metrics={"accuracy": 1.0}, seconds=1.0))
    channel.emit(TrialExited(**who, outcome=Outcome.COMPLETED, batches=20))
    assert capsys.readouterr().out.splitlines() == [
        "Training on cpu, going on after 10 batches",
        "Note: checkpoint abc was not used: damaged",
        "Data: digits (1,797 images)",
        "Note: look",
        "training    batch 20  epoch 0.50  loss 0.1235  worst NaN",
        "validation  batch 20/40  epoch 0.50  accuracy 1",
    ]
    assert not channel.interrupted


def one_process(**more: Any) -> dict[str, Any]:
    return {**CONFIG, "backend": {"name": "xla", "device": "CPU"}, **more}


@needs_xla
def test_a_backend_that_drives_all_slots_from_one_process_is_given_all_of_the_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    given = {"lr": 1, "model": {"hidden": 5}}
    spec = made(given, one_process(resources={"slots_per_trial": 2}))
    assert (spec.size, [slot.id for slot in spec.slots]) == (1, ["xla:0", "xla:1"])
    assert spec.environment["CPU_NUM_DEVICES"] == "2"
    assert len(made(given, one_process()).slots) == 1
    assert len(made(given, one_process(resources={"slots_per_trial": "auto"})).slots) == 4
    with pytest.raises(PluginError, match="there can be 1 to 4 slots, not 5"):
        made(given, one_process(resources={"slots_per_trial": 5}))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="drives all slots of a trial from one process, and this is one of 2"):
        made(given, one_process())


def test_a_script_in_another_interpreter_than_its_config_names_is_told_which(tmp_path: Path) -> None:
    given = {"lr": 1, "model": {"hidden": 5}}
    with pytest.raises(UsageError, match=rf"names the interpreter {tmp_path}/python for the backend 'cpu', and this"):
        made(given, {**CONFIG, "backend": {"name": "cpu", "python": f"{tmp_path}/python"}})
    assert made(given, {**CONFIG, "backend": {"name": "cpu", "python": sys.executable}}).python is None
