"""The launch layer as commands name it: `python3 -m mnist_trials.launch.torch_distributed [OPTIONS --] COMMAND`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from mnist_trials.errors import UsageError

LAUNCH_LAYER: Final = "mnist_trials.launch.torch_distributed"

WORKER_VARIABLE: Final = "MNIST_TRIALS_WORKER"
"""Set in the environment of a command that a launcher runs for a trial; says how it finds that trial."""

_IN_A_SHELL: Final = re.compile(rf"-m\s+{re.escape(LAUNCH_LAYER)}\b")


@final
@dataclass(frozen=True, slots=True)
class LayeredCommand:
    """What the launch layer was given."""

    options: tuple[str, ...]  # torchrun's, without `--slots`
    slots: str | None  # what `--slots` says
    command: tuple[str, ...]  # at least one word


def uses_launch_layer(command: Sequence[str]) -> bool:
    """Whether `command` starts the launch layer, by itself or in a shell: then it is run on every slot of a trial."""
    words = tuple(command)
    if words[1:3] == ("-m", LAUNCH_LAYER):
        return True
    return words[:2] == ("sh", "-c") and len(words) == 3 and _IN_A_SHELL.search(words[2]) is not None


def read_layered(arguments: Sequence[str]) -> LayeredCommand:
    """What stands behind `python3 -m mnist_trials.launch.torch_distributed`.

    Options end with `--`; only `--slots N` may stand without it. A `--trial` before the command is left out.

    Raises:
        UsageError: there is no command, or options are not ended by `--`.
    """
    words = tuple(arguments)
    options, command = _divided(words)
    slots, options = _take_slots(options)
    if command[:1] == ("--trial",):
        command = command[1:]
    if not command:
        raise UsageError(f"{_shown(words)} names no command after the launch layer.")
    return LayeredCommand(options, slots, command)


def _divided(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options, and the command after them."""
    if not words or not words[0].startswith("-") or words[0] == "--trial":
        return (), words
    if words[0].split("=")[0] == "--slots":
        length = 2 if words[0] == "--slots" else 1
        if not any(word.startswith("-") for word in words[length : length + 1]):
            return words[:length], words[length:]
    if "--" not in words:
        raise UsageError(
            f"{_shown(words)}: torchrun's options end with `--`, as in `{LAUNCH_LAYER} --nnodes 2 -- python3 train.py`."
        )
    end = words.index("--")
    return words[:end], words[end + 1 :]


def _take_slots(options: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    for index, option in enumerate(options):
        if option.startswith("--slots="):
            return option.removeprefix("--slots="), options[:index] + options[index + 1 :]
        if option == "--slots":
            return " ".join(options[index + 1 : index + 2]), options[:index] + options[index + 2 :]
    return None, options


def _shown(words: tuple[str, ...]) -> str:
    return f"`{shlex.join(('-m', LAUNCH_LAYER, *words))}`"
