from __future__ import annotations

import pytest

from mnist_trials.errors import TrialError
from mnist_trials.worker.command import without_launch_layer

LAYER = ("python3", "-m", "mnist_trials.launch.torch_distributed")


@pytest.mark.parametrize(
    "command",
    [
        ("python3", "train.py"),
        (*LAYER, "python3", "train.py"),
        (*LAYER, "--", "python3", "train.py"),
        (*LAYER, "--trial", "python3", "train.py"),
        (*LAYER, "--max_restarts", "0", "--", "python3", "train.py"),
    ],
)
def test_on_one_slot_the_launch_layer_is_only_the_command_behind_it(command: tuple[str, ...]) -> None:
    assert without_launch_layer(command) == ("python3", "train.py")


@pytest.mark.parametrize("command", [LAYER, (*LAYER, "--"), (*LAYER, "--trial")])
def test_a_launch_layer_without_a_command_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(TrialError, match=r"torch_distributed.*' names no command after the launch layer"):
        without_launch_layer(command)
