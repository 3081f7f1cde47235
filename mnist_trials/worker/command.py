"""Command entrypoints: a worker process that becomes the user's command, or a script run inside this process."""

from __future__ import annotations

import importlib.util
import os
import runpy
import select
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mnist_trials.config.launch_layer import WORKER_VARIABLE, read_layered, uses_launch_layer
from mnist_trials.errors import TrialError
from mnist_trials.plugin.processes import end_group
from mnist_trials.worker.seat import Address

_INTERPRETERS = ("python", "python3")


def without_launch_layer(command: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """What `python3 -m mnist_trials.launch.torch_distributed [OPTIONS --] COMMAND` runs; any other command as it is.

    The launcher has started a process on every slot of the trial already, so there is nothing left for the layer to do.

    Returns:
        The command, and a sentence for a person if options of the layer have no effect therefore, else "".

    Raises:
        UsageError: no command stands behind it, or its options are not ended by `--`.
    """
    if not uses_launch_layer(command) or command[1] != "-m":  # one in a shell runs as a process of its own
        return command, ""
    layered = read_layered(command[3:])
    ignored = [*layered.options, *(["--slots", layered.slots] if layered.slots is not None else [])]
    if not ignored:
        return layered.command, ""
    return layered.command, (
        f"The launch layer's options `{shlex.join(ignored)}` have no effect in an experiment: its launcher starts the "
        "command on every slot of the trial, resources.slots_per_trial of them."
    )


def become(command: tuple[str, ...], address: Address) -> NoReturn:
    """Turn this process into `command`, which finds its trial by `mt.init()`.

    The commands `python` and `python3` are this very interpreter's, whatever the PATH was. From here on a small
    process of its own ends the group if the launcher dies, so that this holds for any command, connected or not.

    Raises:
        TrialError: there is no such command, or it cannot be run.
    """
    _watch_in_background(address)
    environment = dict(os.environ)
    environment[WORKER_VARIABLE] = address.to_text()
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    for descriptor in (address.events, address.requests):
        os.set_inheritable(descriptor, True)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them for itself
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the entrypoint is the user's own command
    except OSError as error:
        raise TrialError(
            f"The entrypoint's command '{command[0]}' cannot be run: {error.strerror}. The whole command: "
            f"{shlex.join(command)}"
        ) from None


def _watch_in_background(address: Address) -> None:
    """Start the process that watches the pipe of requests for its end.

    It is nobody's child, so that a script that waits for all its children does not wait for it; it is a member of
    the group and so ends with it.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2, address.events):
        os.dup2(nowhere, descriptor)
    poll = select.poll()
    poll.register(address.requests, 0)  # no event but the end of the pipe
    poll.poll()
    end_group(address.group)


def run_here(command: Sequence[str]) -> None:
    """Run a Python script or module in this process as `python3 ...` would; changes `sys.argv` and `sys.path`.

    Raises:
        TrialError: the command is something else, or there is no such script or module.
        Exception: whatever the script raises.
    """
    program, *rest = command
    if Path(program).name in _INTERPRETERS or program == sys.executable:
        match rest:
            case ["-m", module, *arguments]:
                return _run_module(module, arguments)
            case [script, *arguments] if not script.startswith("-"):
                return _run_script(script, arguments)
    raise TrialError(
        f"The launcher 'inline' cannot run '{shlex.join(command)}': in this process it can run `python3 SCRIPT.py ...` "
        "and `python3 -m MODULE ...`. Use `launcher: local` for other commands."
    )


def _run_module(module: str, arguments: Sequence[str]) -> None:
    sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a package above it
        found = None
    if found is None:
        raise TrialError(f"The entrypoint's command runs the module '{module}', which is not in {os.getcwd()}.")
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _run_script(script: str, arguments: Sequence[str]) -> None:
    if not Path(script).is_file():
        raise TrialError(f"The entrypoint's command runs the script '{script}', which is not in {os.getcwd()}.")
    sys.path.insert(0, str(Path(script).parent.resolve()))
    sys.argv[:] = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
