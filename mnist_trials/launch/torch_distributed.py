"""Runs a command on several slots at once, each run being one rank of a group.

    python3 -m mnist_trials.launch.torch_distributed [--slots N] [TORCHRUN OPTIONS --] COMMAND ...

starts COMMAND on N slots of this machine (default: all of them) by torch's elastic launcher, so that COMMAND finds
torchrun's variables. With several ranks each line of their output begins with `[rank=N]`. SIGINT and SIGTERM are passed
on, and the exit status is that of the first rank that failed. Ranks end with this process, however it ends.

The options of torchrun stand before `--`, for example `--nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29400 --`.

As the entrypoint of an experiment it runs COMMAND on every slot of the trial. The experiment's launcher has started a
process on each of them by then, so this one becomes COMMAND, and its options have no effect.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from mnist_trials.config.launch_layer import LAUNCH_LAYER, WORKER_VARIABLE, read_layered
from mnist_trials.errors import MnistTrialsError, PluginError, UsageError
from mnist_trials.plugin import get_plugins

_AUTO = ("cuda", "cpu")
"""What `backend: auto` tries, in order."""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    try:
        layered = read_layered(arguments)
        if WORKER_VARIABLE in os.environ:
            _become(layered.command)
        from mnist_trials.launch.elastic import launch

        return launch(layered.options, _slots(layered.slots, layered.options), layered.command)
    except MnistTrialsError as error:
        print(f"{LAUNCH_LAYER}: {error}", file=sys.stderr)
        return error.exit_status


def _become(command: tuple[str, ...]) -> NoReturn:
    try:
        os.execvp(command[0], command)  # noqa: S606 - the user's own command
    except OSError as error:
        raise UsageError(f"'{shlex.join(command)}' cannot be run: {error.strerror}.") from None


def _slots(given: str | None, options: Sequence[str]) -> int | None:
    """On how many slots of this machine to run; None where an option of torchrun says it.

    Raises:
        UsageError: `given` is no whole number of at least 1, or it is said twice.
    """
    of_torchrun = next((o for o in options if o.replace("_", "-").startswith("--nproc-per-node")), None)
    if given is None:
        return _slots_here() if of_torchrun is None else None
    if of_torchrun is not None:
        raise UsageError(f"`--slots {given}` and `{of_torchrun}` mean the same; give one of them.")
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"`--slots` takes a whole number of at least 1, not '{given}'.")
    return int(given)


def _slots_here() -> int:
    plugins = get_plugins()
    known = plugins.backends()
    for name in _AUTO:
        if name in known and known[name].available() is None and (slots := known[name].factory({}).slots(None)):
            return len(slots)
    raise PluginError(f"No backend of {', '.join(_AUTO)} is available here. Say on how many slots to run: `--slots N`.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
