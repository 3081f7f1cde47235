from __future__ import annotations

import pytest

from mnist_trials.errors import UsageError
from mnist_trials.worker.command import without_launch_layer

LAYER = ("python3", "-m", "mnist_trials.launch.torch_distributed")
TRAIN = ("python3", "train.py")


@pytest.mark.parametrize(
    "command", [TRAIN, (*LAYER, *TRAIN), (*LAYER, "--", *TRAIN), (*LAYER, "--trial", *TRAIN), ("sh", "-c", "true")]
)
def test_in_an_experiment_the_launch_layer_is_only_the_command_behind_it(command: tuple[str, ...]) -> None:
    assert without_launch_layer(command) == (command if command[0] == "sh" else TRAIN, "")


def test_options_of_the_layer_that_have_no_effect_are_named() -> None:
    command, notice = without_launch_layer((*LAYER, "--max_restarts", "0", "--slots", "2", "--", *TRAIN))
    assert command == TRAIN
    assert notice.startswith("The launch layer's options `--max_restarts 0 --slots 2` have no effect in an experiment")


@pytest.mark.parametrize("command", [LAYER, (*LAYER, "--"), (*LAYER, "--trial"), (*LAYER, "--slots", "2")])
def test_a_launch_layer_without_a_command_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"torch_distributed.* names no command after the launch layer"):
        without_launch_layer(command)
