"""The checkpoint settings of the torch MNIST reference, each by the config that docs/references.md gives for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnist_trials.experiment import api
from mnist_trials.store import open_reader
from mnist_trials.store.rows import CheckpointRow
from tests.plugins.checkpoint_storage.moto_server import MotoServer

PAGE = Path(__file__).parents[2] / "docs" / "references.md"

BASE: Mapping[str, Any] = {
    "name": "settings",
    "entrypoint": "mnist_trials.mnist.trials:FCMNIST",
    "hyperparameters": {"hidden_sizes": [8], "optimizer": "sgd", "learning_rate": 0.1, "global_batch_size": 150},
    "data": {"name": "digits"},
    "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"epochs": 3}},
    "launcher": "inline",
    "backend": "cpu",
}
BATCHES = 10  # of an epoch
ALL = {"save_trial_latest": 100}


def mapped(setting: str) -> dict[str, Any]:
    """The config that the page gives for a setting, from its table row: the first piece of code in the last column."""
    row = re.search(rf"^\| `{re.escape(setting)}` \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert row, f"{PAGE.name} has no row for {setting}"
    pieces = re.findall(r"`([a-z_]+: .*?)`", row[1])
    merged: dict[str, Any] = {}
    for piece in pieces:
        merged |= yaml.safe_load(piece)
    return merged


def run(home: Path, config: Mapping[str, Any], **changes: Any) -> list[CheckpointRow]:
    """All checkpoints that the experiment recorded, in order."""
    experiment_id = api.submit({**BASE, **config, **changes}, home=home, slots=1)
    summary = api.run(experiment_id, home=home)
    assert summary["state"] == "COMPLETED", summary
    with open_reader(home) as reader:
        return sorted(reader.checkpoints(experiment_id), key=lambda row: row.created)


def batches(rows: list[CheckpointRow], state: str | None = None) -> list[int]:
    return [row.batches for row in rows if state in (None, row.state)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


EACH_EPOCH = {"min_validation_period": {"epochs": 1}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "more", "recorded"),
    [
        ("save_strategy: epoch", {}, [10, 20, 30]),
        ("save_strategy: step", {}, [4, 8, 12, 16, 20, 24, 28, 30]),
        ("save_strategy: none", EACH_EPOCH, [30]),
    ],
)
def test_a_strategy_saves_when_it_says_and_at_the_end(
    home: Path, setting: str, more: Mapping[str, Any], recorded: list[int]
) -> None:
    config = mapped(setting)
    assert batches(run(home, {**config, **more, "checkpoint_policy": "none", "checkpoint_storage": ALL})) == recorded


@pytest.mark.parametrize(
    ("policy", "rate", "recorded"),
    [
        ("best", 0.1, [7, 10, 14, 20, 21, 28, 30]),  # it gets better in every epoch
        ("best", 0.0, [7, 10, 14, 21, 28, 30]),  # it never does
        ("all", 0.0, [7, 10, 14, 20, 21, 28, 30]),
        ("none", 0.1, [7, 14, 21, 28, 30]),
    ],
)
def test_the_policy_adds_to_the_period(home: Path, policy: str, rate: float, recorded: list[int]) -> None:
    changes = {"hyperparameters": {**BASE["hyperparameters"], "learning_rate": rate}}
    rows = run(
        home,
        {**EACH_EPOCH, "min_checkpoint_period": {"batches": 7}, "checkpoint_storage": ALL},
        checkpoint_policy=policy,
        **changes,
    )
    assert batches(rows) == recorded


@pytest.mark.slow
def test_keep_last_and_keep_best_keep_so_many(home: Path) -> None:
    config = {**mapped("keep_last_n: 3"), "min_checkpoint_period": {"batches": 4}, **EACH_EPOCH}
    config["checkpoint_storage"] = {"save_trial_best": 0, **config["checkpoint_storage"]}
    rows = run(home, config, checkpoint_policy="all")
    assert batches(rows, "COMPLETED") == [24, 28, 30]
    assert set(batches(rows, "DELETED")) == {4, 8, 10, 12, 16, 20}
    assert [row for row in rows if Path(row.location).exists() != (row.state == "COMPLETED")] == []


@pytest.mark.slow
def test_keep_last_0_keeps_none_but_the_best(home: Path) -> None:
    config = {**EACH_EPOCH, **mapped("keep_last_n: 0")}
    worse = {**BASE["hyperparameters"], "learning_rate": 0.0, "dropout": 0.0}
    rows = run(home, config, checkpoint_policy="all", hyperparameters=worse)
    assert batches(rows, "COMPLETED") == [10]  # of equals the first is the best


def test_keep_best_2_keeps_the_two_best(home: Path) -> None:
    config = {**EACH_EPOCH, **mapped("keep_best_n: 2")}
    config["checkpoint_storage"] = {"save_trial_latest": 0, **config["checkpoint_storage"]}
    rows = run(home, config, checkpoint_policy="all")
    best = sorted(rows, key=lambda row: row.metrics["validation_loss"] or 0.0)[:2]
    assert {row.uuid for row in rows if row.state == "COMPLETED"} == {row.uuid for row in best}


def test_save_optim_false_leaves_the_optimizer_out(home: Path) -> None:
    from mnist_trials.checkpoint import read_checkpoint

    momentum = {**BASE["hyperparameters"], "momentum": 0.9}
    (row,) = run(home, mapped("save_optim: false"), hyperparameters=momentum)
    assert read_checkpoint(Path(row.location))[1].state["optimizers"] is None


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    started = MotoServer()
    started.make_bucket("bucket")
    yield started
    started.stop()


@pytest.fixture
def credentials(server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "up")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)


def reported(home: Path, experiment_id: int, after: int) -> list[tuple[str, int, Any]]:
    with open_reader(home) as reader:
        rows = reader.metrics(experiment_id, 1)
        return [(row.kind, row.batches, row.metrics) for row in rows if row.batches > after]


@pytest.mark.usefixtures("credentials")
def test_what_is_synced_to_a_storage_is_loaded_from_there(home: Path, server: MotoServer) -> None:
    hparams = {**BASE["hyperparameters"], "momentum": 0.9, "dropout": 0.3}  # an optimizer's state, and random numbers
    longer = {**BASE["searcher"], "max_length": {"epochs": 4}}
    common = {**EACH_EPOCH, "hyperparameters": hparams, "scheduling_unit": 5}
    run(home, common, searcher=longer)  # experiment 1, undisturbed and in a folder
    stored = {**common, **mapped("sync_to_storage: true, remote_path")}
    row = run(home, stored)[-1]
    assert row.location == f"s3://bucket/mnist/checkpoints/{row.uuid}"
    assert f"bucket/mnist/checkpoints/{row.uuid}/model.safetensors" in server.connect().find("bucket")

    run(home, {**stored, **mapped("load_from_storage: true")}, searcher=longer)
    assert reported(home, 3, after=0) == reported(home, 1, after=30) != []  # to the last bit

    run(home, {**common, "perform_initial_validation": True}, searcher={**BASE["searcher"], "source_trial_id": "2.1"})
    with open_reader(home) as reader:
        (again,) = reader.runs(4, 1)
        weights_alone = reader.metrics(4, 1, "validation")[0]
    assert (again.start_batches, again.batches) == (0, 30)
    assert weights_alone.metrics == reported(home, 2, after=29)[-1][2]
    assert reported(home, 4, after=0)[1:] != reported(home, 1, after=0)
