import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mnist_trials
from mnist_trials.checkpoint import (
    CheckpointContent,
    new_checkpoint_id,
    read_checkpoint,
    read_manifest,
    verify,
    write_checkpoint,
)
from mnist_trials.errors import CheckpointError
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.records import CheckpointInfo
from mnist_trials.testing.faults import fault_points

POINTS = sorted(name for name in fault_points() if name.startswith("checkpoint."))


def test_what_is_written_is_read_again(storage: CheckpointStorage, content: CheckpointContent) -> None:
    write_checkpoint(storage, "first", content)
    with storage.fetch("first") as folder:
        manifest, restored = read_checkpoint(folder)
    assert list(restored.model) != []
    assert {name: tensor.tolist() for name, tensor in restored.model.items()} == {
        name: tensor.tolist() for name, tensor in content.model.items()
    }
    assert repr(restored.state) == repr(content.state)
    assert restored.metrics == {"accuracy": 0.75, "loss": None, "other": None}
    for name in (
        "batches",
        "epochs",
        "records",
        "hparams",
        "trial_class",
        "experiment_id",
        "trial_id",
        "config",
        "code",
    ):
        assert getattr(restored, name) == getattr(content, name) == getattr(manifest, name), name


def test_the_result_says_what_was_written(storage: CheckpointStorage, content: CheckpointContent) -> None:
    info = write_checkpoint(storage, "first", content)
    folder = Path(info.location)
    assert info == CheckpointInfo(
        uuid="first",
        batches=30,
        epochs=0.5,
        records=1920,
        metrics={"accuracy": 0.75, "loss": None, "other": None},
        bytes=sum(path.stat().st_size for path in folder.iterdir()),
        location=storage.locate("first"),
    )


def test_the_manifest_is_strict_json_with_all_that_was_promised(
    storage: CheckpointStorage, content: CheckpointContent
) -> None:
    write_checkpoint(storage, "first", content)

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    with storage.fetch("first") as folder:
        document = json.loads((folder / "manifest.json").read_text(), parse_constant=refuse)
        json.loads((folder / "state.json").read_text(), parse_constant=refuse)
        assert sorted(path.name for path in folder.iterdir()) == sorted([*document["files"], "manifest.json"])
    assert document["format"] == "mnist-trials checkpoint"
    assert document["format_version"] == 1
    assert document["steps"] == {"batches": 30, "epochs": 0.5, "records": 1920}
    assert document["hyperparameters"] == content.hparams
    assert document["trial_class"] == "model:MyTrial"
    assert document["libraries"]["mnist-trials"] == mnist_trials.__version__
    assert document["libraries"]["torch"] == str(torch.__version__)
    assert sorted(document["files"]) == ["model.safetensors", "optimizer.safetensors", "state.json"]


def test_only_weights_can_be_read(storage: CheckpointStorage, content: CheckpointContent) -> None:
    write_checkpoint(storage, "first", content)
    with storage.fetch("first") as folder:
        _, restored = read_checkpoint(folder, weights_only=True)
    assert restored.state == {}
    assert sorted(restored.model) == sorted(content.model)


def test_tied_weights_are_stored_once_and_tied_again(storage: CheckpointStorage, content: CheckpointContent) -> None:
    write_checkpoint(storage, "first", content)
    with storage.fetch("first") as folder:
        stored = load_file(folder / "model.safetensors")
        manifest, restored = read_checkpoint(folder)
    assert sorted(stored) == ["bias", "embed.weight"]
    assert sorted(manifest.tied) == ["head.weight", "turned"]
    restored.model["embed.weight"][0, 1] = 99
    assert restored.model["head.weight"][0, 1] == restored.model["turned"][1, 0] == 99


def test_tensors_outlive_the_fetched_folder(storage: CheckpointStorage, content: CheckpointContent) -> None:
    write_checkpoint(storage, "first", content)
    with storage.fetch("first") as folder:
        _, restored = read_checkpoint(folder)
    storage.delete("first")
    assert restored.model["bias"].tolist() == [1, 1]


def test_a_checkpoint_without_tensors_is_one(storage: CheckpointStorage, content: CheckpointContent) -> None:
    write_checkpoint(storage, "first", replace(content, model={}, state={}))
    with storage.fetch("first") as folder:
        verify(folder)
        _, restored = read_checkpoint(folder)
    assert (restored.model, restored.state) == ({}, {})


def test_ids_are_random_uuids() -> None:
    ids = {new_checkpoint_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(name) == 36 for name in ids)


def test_manifests_are_read_and_verified_without_importing_torch(
    storage: CheckpointStorage, content: CheckpointContent
) -> None:
    folder = write_checkpoint(storage, "first", content).location
    program = (
        "import pathlib, sys; from mnist_trials.checkpoint import read_manifest, verify;"
        f"assert read_manifest(pathlib.Path({folder!r})) == verify(pathlib.Path({folder!r}));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"a.weight": torch.ones(1).to_sparse()}}, "a.weight of the model cannot be kept in a checkpoint"),
        ({"model": {"__metadata__": torch.ones(1)}}, "A tensor of the model is named '__metadata__'"),
        ({"state": {"callbacks": [{"seen": {1}}]}}, "callbacks.0.seen cannot be kept in a checkpoint"),
        ({"hparams": {"a": {"lr": torch.ones(1)}}}, "hyperparameters.a.lr is of type torch.Tensor"),
        ({"hparams": {"lr": [1, float("nan")]}}, "hyperparameters.lr.1 is nan, which JSON cannot hold"),
        ({"config": {"data": {3: "x"}}}, "The key 3 of config.data is not text"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(
    storage: CheckpointStorage, content: CheckpointContent, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError) as error:
        write_checkpoint(storage, "first", replace(content, **change))
    assert str(error.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(("action", "cause"), [("enospc", "No space left on device"), ("raise", "Input/output error")])
def test_a_disk_that_fails_leaves_nothing(
    storage: CheckpointStorage,
    content: CheckpointContent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    action: str,
    cause: str,
) -> None:
    monkeypatch.setenv("MNIST_TRIALS_FAULT", f"{point}:{action}")
    with pytest.raises(CheckpointError) as error:
        write_checkpoint(storage, "first", content)
    assert str(error.value).startswith(f"The checkpoint 'first' could not be written to {tmp_path}/kept/.tmp-first: ")
    assert cause in str(error.value)
    assert storage.ids() == []
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_checkpoint_beyond_the_limit_for_files_is_an_error_of_its_own(
    storage: CheckpointStorage, content: CheckpointContent
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(CheckpointError, match="File too large"):
            write_checkpoint(storage, "first", replace(content, model={"big": torch.zeros(100_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert storage.ids() == []


def test_a_place_that_cannot_be_written_is_named(
    storage: CheckpointStorage, content: CheckpointContent, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("in the way")
    with pytest.raises(CheckpointError, match=f"could not be begun in {tmp_path}/kept"):
        write_checkpoint(storage, "first", content)


def test_an_id_that_is_taken_keeps_its_checkpoint(storage: CheckpointStorage, content: CheckpointContent) -> None:
    write_checkpoint(storage, "first", content)
    with pytest.raises(CheckpointError, match="already a checkpoint 'first'"):
        write_checkpoint(storage, "first", replace(content, batches=31))
    with storage.fetch("first") as folder:
        assert verify(folder).batches == 30


def test_there_is_a_fault_point_after_every_step() -> None:
    assert POINTS == [
        "checkpoint.begun",
        "checkpoint.committed",
        "checkpoint.manifest_written",
        "checkpoint.model_written",
        "checkpoint.optimizer_written",
        "checkpoint.state_written",
    ]


def test_killed_at_any_fault_point_a_checkpoint_is_whole_or_absent(
    storage: CheckpointStorage, content: CheckpointContent, tmp_path: Path
) -> None:
    program = Path(__file__).with_name("killed_writer.py")
    subprocess.run([sys.executable, program, tmp_path / "kept", *POINTS], check=True, timeout=120)
    assert storage.ids() == ["checkpoint.committed"]
    for point in POINTS:
        if point not in storage.ids():
            write_checkpoint(storage, point, content)
        with storage.fetch(point) as folder:
            verify(folder)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == POINTS


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (read_manifest, verify, read_checkpoint):
        with pytest.raises(CheckpointError, match=f"There is no checkpoint at {tmp_path}/absent: no such folder"):
            read(tmp_path / "absent")
