"""What was trained on some slots goes on on others, by the command line; the numbers stay those of one slot."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.support import Command, write_config

ONE = ("resources.slots_per_trial=1", "mesh=null")
DATA = ("resources.slots_per_trial=2", "mesh=[2, 1]")
TENSOR = ("resources.slots_per_trial=2", "mesh=[1, 2]")


def changes(*given: str) -> list[str]:
    return [word for change in given for word in ("--config", change)]


@pytest.fixture
def straight(command: Command) -> Any:
    """Experiment 1: four epochs of 15 batches on one slot, undisturbed."""
    write_config(
        command.cwd,
        name="linear",
        entrypoint="mnist_trials.mnist.trials:MNISTLinear",
        hyperparameters={
            "hidden_size": 16,
            "bias": False,
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "global_batch_size": 100,
        },
        checkpoint_policy="none",
    )
    return command.json("create", "experiment.yaml")


def gone_on(command: Command, first: tuple[str, ...], then: tuple[str, ...]) -> Any:
    """What comes of two epochs on the slots `first` and two on `then`."""
    cut = command.json("fork", 1, *changes(*first, "searcher.max_length.epochs=2"))
    assert cut["trials"][0]["batches"] == 30
    end = command.json("fork", 1, *changes(*then, "resume.from=last"))
    (described,) = [line for line in command("describe", end["experiment_id"]).stdout.splitlines() if "goes on" in line]
    assert "trial 2.1 at batch 30" in described
    return end


def same_numbers(command: Command, ended: Any, straight: Any) -> None:
    assert ended["trials"][0]["batches"] == straight["trials"][0]["batches"] == 60
    rows = command.json("metrics", f"{ended['experiment_id']}.1")
    whole = [row for row in command.json("metrics", "1.1") if row["batches"] > 30]
    assert [row["batches"] for row in rows] == [row["batches"] for row in whole]
    for row, like in zip(rows, whole, strict=True):
        assert row["metrics"] == pytest.approx(like["metrics"], abs=1e-5)


@pytest.mark.slow
def test_split_weights_go_on_on_one_slot_and_are_evaluated_there(command: Command, straight: Any) -> None:
    ended = gone_on(command, TENSOR, ONE)
    same_numbers(command, ended, straight)
    (split,) = [row for row in command.json("checkpoints", 2) if row["state"] == "COMPLETED"]
    reported = command.json("metrics", "2.1")[-1]["metrics"]
    assert command.json("evaluate", split["uuid"])["metrics"] == pytest.approx(reported, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"), [(DATA, ONE), (ONE, DATA), (ONE, TENSOR), (DATA, TENSOR)], ids=["2-1", "1-2", "1-1x2", "2-1x2"]
)
def test_any_slots_go_on_from_any_others(
    command: Command, straight: Any, first: tuple[str, ...], then: tuple[str, ...]
) -> None:
    same_numbers(command, gone_on(command, first, then), straight)
