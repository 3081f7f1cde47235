from __future__ import annotations

import pytest

from mnist_trials.config.launch_layer import LayeredCommand, read_layered, uses_launch_layer
from mnist_trials.config.parts import Entrypoint
from mnist_trials.errors import UsageError

TRAIN = ("python3", "train.py", "--", "--lr", "1")


@pytest.mark.parametrize(
    ("given", "options", "slots"),
    [
        ((), (), None),
        (("--",), (), None),
        (("--slots", "2"), (), "2"),
        (("--slots=2",), (), "2"),
        (("--slots", "2", "--"), (), "2"),
        (("--nnodes", "2", "--slots", "3", "--standalone", "--"), ("--nnodes", "2", "--standalone"), "3"),
        (("--nnodes=2", "--slots=3", "--"), ("--nnodes=2",), "3"),
    ],
)
def test_options_end_where_the_command_begins(given: tuple[str, ...], options: tuple[str, ...], slots: str) -> None:
    assert read_layered((*given, *TRAIN)) == LayeredCommand(options, slots, TRAIN)


@pytest.mark.parametrize(
    "words", [("--nnodes", "2", "python3", "train.py"), ("--slots", "2", "--nnodes", "2", "python3", "train.py")]
)
def test_options_of_torchrun_that_nothing_ends_are_refused_with_an_example(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"options end with `--`, as in `.* --nnodes 2 -- python3 train\.py`"):
        read_layered(words)


def test_a_layer_without_a_command_is_refused() -> None:
    with pytest.raises(UsageError, match=r"`-m mnist_trials.launch.torch_distributed --slots 2` names no command"):
        read_layered(("--slots", "2"))


@pytest.mark.parametrize(
    ("command", "uses"),
    [
        (("python3", "-m", "mnist_trials.launch.torch_distributed", "python3", "train.py"), True),
        (("sh", "-c", "A=1 python3 -m mnist_trials.launch.torch_distributed python3 train.py > x"), True),
        (("sh", "-c", "python3 train.py"), False),
        (("python3", "train.py"), False),
        (("echo", "mnist_trials.launch.torch_distributed"), False),
    ],
)
def test_a_command_is_seen_to_use_the_layer(command: tuple[str, ...], uses: bool) -> None:
    assert uses_launch_layer(command) is uses
    assert Entrypoint.of(list(command)).per_rank is uses
