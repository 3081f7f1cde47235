"""Checkpoints that lie in a bucket: downloaded, evaluated, gone on from and started from, by every name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.cli.main import main
from mnist_trials.experiment import api
from mnist_trials.store import open_reader
from tests.cli.conftest import write_project
from tests.plugins.checkpoint_storage.moto_server import KEY, SECRET, MotoServer

BUCKET = "bucket"


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    started = MotoServer()
    started.make_bucket(BUCKET)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def stored_away(server: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home whose experiment 1 has its checkpoint in the bucket, and the project it came from."""
    folder = tmp_path_factory.mktemp("away")
    config = write_project(folder / "project")
    text = config.read_text() + f"checkpoint_storage: {json.dumps(s3(server))}\n"
    config.write_text(text)
    assert main(["--home", str(folder / "home"), "create", str(config), "--launcher", "inline", "--slots", "1"]) == 0
    return folder


def s3(server: MotoServer, **more: Any) -> dict[str, Any]:
    return {"type": "s3", **server.options(BUCKET, prefix="first"), **more}


@pytest.fixture
def away(stored_away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(stored_away, tmp_path / "away")
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "away" / "home"))
    return tmp_path / "away"


@pytest.fixture
def credentials(server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)


def row_of(away: Path) -> Any:
    with open_reader(away / "home") as reader:
        (row,) = reader.checkpoints(1)
    return row


def options(away: Path, experiment_id: int) -> dict[str, Any]:
    with open_reader(away / "home") as reader:
        return dict(reader.experiment(experiment_id).options)


def start_of(away: Path, experiment_id: int) -> tuple[int, list[int]]:
    """Where the one run of the experiment's trial began, and after which batches it reported."""
    with open_reader(away / "home") as reader:
        (run,) = reader.runs(experiment_id, 1)
        return run.start_batches, [row.batches for row in reader.metrics(experiment_id, 1, "training")]


def test_a_checkpoint_is_downloaded_whole_and_can_be_used_from_there(cli, away: Path, tmp_path: Path) -> None:
    row = row_of(away)
    outcome = cli("download", row.uuid[:8], "--to", tmp_path / "new" / "copy", "--json")
    assert outcome.status == 0, outcome.err
    copy = tmp_path / "new" / "copy"
    assert outcome.document == {
        "checkpoint": row.uuid, "directory": str(copy), "bytes": row.bytes, "experiment_id": 1, "trial_id": 1,
        "batches": 8,
    }  # fmt: skip
    assert sorted(path.name for path in copy.iterdir()) == [
        "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]
    evaluated = cli("evaluate", copy, "--json").document
    assert evaluated["metrics"] == pytest.approx(cli("describe", 1, "--json").document["best"]["metrics"])


@pytest.mark.usefixtures("credentials")
def test_a_url_leads_to_it_without_any_store(cli, away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3://{BUCKET}/first/{row_of(away).uuid}"
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "empty"))
    assert cli("evaluate", url, "--json").document["checkpoint"] == url.rpartition("/")[2]
    assert cli("export", url, "--to", tmp_path / "weights").status == 0
    assert cli("download", f"{url}/", "--to", tmp_path / "copy").status == 0
    assert not (tmp_path / "empty").exists()


def test_a_url_that_the_store_knows_takes_the_credentials_of_its_experiment(cli, away: Path) -> None:
    row = row_of(away)
    assert row.location == f"s3://{BUCKET}/first/{row.uuid}"
    assert cli("evaluate", row.location).status == 0


def test_load_trial_finds_it_by_the_beginning_of_its_id(away: Path) -> None:
    import mnist_trials as mt

    assert mt.load_trial(row_of(away).uuid[:8]).context.trial_id == 1


def test_what_came_damaged_is_not_called_downloaded(cli, server: MotoServer, away: Path, tmp_path: Path) -> None:
    uuid = row_of(away).uuid
    files = server.connect()
    good = files.cat_file(f"{BUCKET}/first/{uuid}/state.json")
    files.pipe_file(f"{BUCKET}/first/{uuid}/state.json", good[:-1] + b" ")
    try:
        outcome = cli("download", uuid, "--to", tmp_path / "copy")
        config = away / "project" / "tiny.yaml"
        refused = cli("create", config, "--config", "resume.from=last", "--config", "checkpoint_storage=null")
    finally:
        files.pipe_file(f"{BUCKET}/first/{uuid}/state.json", good)
    assert outcome.status == 1
    assert "state.json was changed after it was written" in outcome.err
    assert not (tmp_path / "copy").exists()
    assert refused.status == 2
    assert "resume.from: " in refused.err
    assert "state.json was changed after it was written" in refused.err
    assert [path.name for path in (away / "home" / "experiments").iterdir()] == ["1"]


@pytest.mark.parametrize("origin", ["last", "best", "id", "url"])
def test_a_fork_goes_on_from_the_checkpoint_in_its_storage(cli, away: Path, origin: str) -> None:
    row = row_of(away)
    given = {"id": row.uuid[:8], "url": row.location}.get(origin, origin)
    changes = ("--config", f"resume.from={given}", "--config", "searcher.max_length.batches=12")
    outcome = cli("fork", 1, *changes, "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.document["trials"][0]["batches"] == 12
    assert start_of(away, 2) == (8, [10, 12])
    source = options(away, 2)["warm_start"]
    assert (source["location"], source["copied"], source["whole"]) == (row.uuid, "", True)


@pytest.mark.parametrize("key", ["source_trial_id='1.1'", "source_checkpoint_uuid={uuid}"])
def test_an_experiment_starts_from_the_weights_in_another_storage(cli, away: Path, key: str) -> None:
    row = row_of(away)
    changes = [
        "checkpoint_storage=null",
        f"searcher.{key.format(uuid=row.uuid)}",
        "perform_initial_validation=true",
        "searcher.max_length.batches=4",
    ]
    outcome = cli("fork", 1, *(word for change in changes for word in ("--config", change)), "--json")
    assert outcome.status == 0, outcome.err
    assert start_of(away, 2) == (0, [2, 4])
    with open_reader(away / "home") as reader:
        first = reader.metrics(2, 1, "validation")[0]
        assert (first.batches, first.metrics) == (0, pytest.approx(reader.trial(1, 1).best_metrics))
    assert options(away, 2)["warm_start"]["copied"] == "files"
    assert not (away / "home" / "experiments" / "2" / "source").exists()  # it has ended


def test_what_was_brought_along_outlives_the_original_and_holds_no_secret(cli, away: Path) -> None:
    assert cli("fork", 1, "--config", "checkpoint_storage.prefix=second").status == 0
    changes = ["resume.from=last", "searcher.max_length.batches=12", "checkpoint_storage=null"]
    fork = api.submit_fork(2, overrides=changes)
    copy = away / "home" / "experiments" / str(fork) / "source"
    assert [path.name for path in copy.glob("*/*.json")] != []
    api.delete(2)
    with open_reader(away / "home") as reader:
        row = reader.experiment(fork)
    assert SECRET not in json.dumps([row.config, row.options])
    assert [path for path in copy.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
    assert api.run(fork)["state"] == "COMPLETED"
    assert start_of(away, fork) == (8, [10, 12])


@pytest.mark.usefixtures("credentials")
def test_a_config_may_name_a_url_that_no_store_knows(
    cli, server: MotoServer, away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/first/{row_of(away).uuid}"
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "another"))
    config = away / "project" / "tiny.yaml"
    changes = ("resume.from=" + url, "searcher.max_length.batches=12", "checkpoint_storage=null")
    given = [word for change in changes for word in ("--config", change)]
    outcome = cli("create", config, "--launcher", "inline", *given, "--json")
    assert outcome.status == 0, outcome.err
    with open_reader(tmp_path / "another") as reader:
        assert [run.start_batches for run in reader.runs(1, 1)] == [8]
    assert f"goes on from checkpoint {url.rpartition('/')[2]}, after 8 batches" in cli("describe", 1).out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory://x/1234", "lies in the memory of the process that wrote it"),
        ("s3://bucket", "is not the URL of a checkpoint, which is that of its folder"),
        ("nosuch://bucket/1234", "fsspec knows no protocol 'nosuch'"),
        ("file:///nowhere/1234", "There is no checkpoint '1234'"),
    ],
)
def test_a_url_that_leads_nowhere_says_why(cli, tmp_path: Path, name: str, said: str) -> None:
    outcome = cli("download", name, "--to", tmp_path / "copy")
    assert outcome.status in (1, 2)
    assert said in outcome.err
    assert not (tmp_path / "copy").exists()
