"""`evaluate` and `export` on the checkpoints of a real experiment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def checkpoint(cli, trained) -> str:
    """The id of the one checkpoint of experiment 1."""
    (row,) = cli("checkpoints", "1", "--json", "--home", trained.home).document
    return str(row["uuid"])


def test_evaluate_gives_the_metrics_that_training_reported(cli, trained, checkpoint: str) -> None:
    summary = cli("describe", 1, "--json", "--home", trained.home).document
    outcome = cli("--home", trained.home, "evaluate", checkpoint[:8], "--json")
    assert outcome.status == 0, outcome.err
    document = outcome.document
    assert (document["checkpoint"], document["experiment_id"], document["trial_id"]) == (checkpoint, 1, 1)
    assert document["metrics"] == pytest.approx(summary["best"]["metrics"])
    assert "validating" in outcome.err


def test_evaluate_shows_the_metrics_to_a_person(cli, trained, checkpoint: str) -> None:
    outcome = cli("--home", trained.home, "evaluate", checkpoint)
    assert f"checkpoint {checkpoint} of trial 1.1 at batch 8:" in outcome.out
    assert "  validation_loss 0." in outcome.out


def test_evaluate_takes_a_folder_that_lies_anywhere(cli, trained, checkpoint: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.home / "checkpoints" / "1" / checkpoint, copy)
    outcome = cli("evaluate", copy)
    assert outcome.status == 0, outcome.err
    assert "checkpoint copy of trial 1.1" in outcome.out


@pytest.mark.parametrize("which", [(), ("--best",), ("--latest",)], ids=lambda which: " ".join(which) or "default")
def test_evaluate_finds_the_checkpoint_of_an_experiment(cli, trained, checkpoint: str, which) -> None:
    outcome = cli("--home", trained.home, "evaluate", "--experiment", 1, *which, "--json")
    assert outcome.document["checkpoint"] == checkpoint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which checkpoint?"),
        (("abc", "--experiment", "1"), "which checkpoint?"),
        (("abc", "--best"), "--best and --latest choose among the checkpoints of an --experiment"),
        (("--experiment", "1", "--best", "--latest"), "not allowed with argument"),
        (("--experiment", "7"), "There is no experiment 7"),
        (("abc",), "has the id 'abc' or an id that begins so"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_evaluate_needs_one_checkpoint_that_is_there(cli, trained, arguments: tuple[str, ...], said: str) -> None:
    outcome = cli("--home", trained.home, "evaluate", *arguments)
    assert outcome.status == 2
    assert said in outcome.err


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ('raise LookupError("no eyes")', "LookupError: no eyes"),
        ('raise SystemExit("no eyes")', "SystemExit: the trial called sys.exit('no eyes')"),
    ],
)
def test_a_trial_that_cannot_be_evaluated_is_shown_with_its_own_traceback(
    program, trained, checkpoint: str, fault: str, said: str
) -> None:
    manifest = trained.home / "checkpoints" / "1" / checkpoint / "manifest.json"
    broken = Path(json.loads(manifest.read_text())["code"]) / "tiny.py"
    text = broken.read_text()
    try:
        broken.write_text(text.replace('print("validating")', fault))
        outcome = program("--home", trained.home, "evaluate", checkpoint)
    finally:
        broken.write_text(text)
    assert outcome.status == 1
    assert f"mnist-trials: error: the trial fails: {said}" in outcome.err
    assert outcome.err.rstrip().splitlines()[-1].startswith(said.partition(":")[0])
    assert "mnist_trials/" not in outcome.err.partition("Traceback")[2]


def test_a_damaged_checkpoint_is_refused(cli, trained, checkpoint: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained.home / "checkpoints" / "1" / checkpoint, copy)
    weights = copy / "model.safetensors"
    weights.chmod(0o644)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for arguments in (("evaluate", copy), ("export", copy, "--to", tmp_path / "out")):
        outcome = cli(*arguments)
        assert outcome.status == 1
        assert "model.safetensors was changed after it was written" in outcome.err
        assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_was_deleted_is_told_to_be(cli, stored: Path) -> None:
    from mnist_trials.store import open_store

    with open_store(stored) as store, store.transaction() as transaction:
        transaction.set_checkpoint_state("11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "DELETED")
    outcome = cli("export", "1111", "--to", stored.parent / "out")
    assert outcome.status == 2
    assert "was deleted by the checkpoint policy; `mnist-trials checkpoints 1` shows the others" in outcome.err


def test_export_writes_weights_that_safetensors_reads_and_metadata(cli, trained, checkpoint: str, tmp_path) -> None:
    from safetensors.torch import load_file

    outcome = cli("--home", trained.home, "export", checkpoint[:8], "--to", tmp_path / "out", "--json")
    assert outcome.status == 0, outcome.err
    weights = load_file(tmp_path / "out" / "model.safetensors")
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in weights.items()} == {"weight": [2, 4], "bias": [2]}
    assert metadata["tensors"]["weight"] == {"shape": [2, 4], "dtype": "float32"}
    assert metadata["checkpoint"] == checkpoint
    assert metadata["trial_class"] == "tiny:Tiny"
    assert metadata["hyperparameters"]["width"] == 2
    assert outcome.document == {"directory": str(tmp_path / "out"), "metadata": metadata}


def test_export_refuses_a_folder_that_is_not_empty(cli, trained, checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    outcome = cli("--home", trained.home, "export", checkpoint, "--to", tmp_path)
    assert outcome.status == 2
    assert f"{tmp_path} is not empty" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_export_into_a_place_that_cannot_be_says_why(cli, trained, checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = cli("--home", trained.home, "export", checkpoint, "--to", tmp_path / "file")
    assert outcome.status == 2
    assert "is not a folder" in outcome.err
    outcome = cli("--home", trained.home, "export", checkpoint, "--to", tmp_path / "file" / "below")
    assert outcome.status == 2
    assert "cannot be written: Not a directory" in outcome.err


def test_evaluate_looks_at_the_test_data_where_a_trial_has_any(cli, home: Path, tmp_path: Path) -> None:
    config = tmp_path / "split.yaml"
    config.write_text(
        "name: split\nentrypoint: mnist_trials.mnist.trials:FCMNIST\nlauncher: inline\nbackend: cpu\n"
        "hyperparameters: {hidden_sizes: [8], optimizer: sgd, learning_rate: 0.1, global_batch_size: 100}\n"
        "data: {name: digits, train_ratio: 0.8}\n"
        "searcher: {name: single, metric: validation_loss, max_length: {epochs: 1}}\n"
    )
    ended = cli("create", config, "--json").document
    on = {split: cli("evaluate", "--experiment", 1, "--split", split, "--json") for split in ("validation", "test")}
    assert on["validation"].status == 0, on["validation"].err
    assert on["validation"].document["metrics"] == pytest.approx(ended["best"]["metrics"])
    assert on["test"].document["split"] == "test"
    assert on["test"].document["metrics"] != pytest.approx(ended["best"]["metrics"])
    assert "on the test data:" in on["test"].err


def test_a_trial_without_test_data_says_so(cli, trained, checkpoint: str) -> None:
    outcome = cli("--home", trained.home, "evaluate", checkpoint, "--split", "test")
    assert outcome.status == 1
    assert "Tiny has no test data: write build_test_data()" in outcome.err
