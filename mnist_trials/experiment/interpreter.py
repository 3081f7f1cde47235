"""Whether the interpreter that a backend's config names can run the workers of an experiment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import mnist_trials
from mnist_trials.config.schema import PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.plugin import Launcher, python_of

_SECONDS: Final = 120.0
_PROBE: Final = """
import json, sys
found = {"version": None, "known": False, "reason": None}
try:
    import mnist_trials
    found["version"] = mnist_trials.__version__
    from mnist_trials.plugin import get_plugins
    record = get_plugins().backends().get(sys.argv[1])
    found["known"] = record is not None
    found["reason"] = record and record.available()
except ImportError as error:
    found["missing"] = str(error)
print(json.dumps(found))
"""


def check(choice: PluginChoice, launcher: Launcher) -> None:
    """See that the interpreter of the backend `choice`, if it names one, is there and has what workers need.

    Where a launcher works on other machines, an interpreter that is not here is looked for when workers start.

    Raises:
        PluginError: it is not, or has not; the text says what to install.
    """
    python = python_of(choice.name, choice.options)
    if python is None:
        return
    if not launcher.starts_processes:
        raise PluginError(
            f"the backend's interpreter {python} is for workers that are processes of their own, and this launcher "
            "runs them in this very process; use `launcher: local`"
        )
    path = Path(python)
    if launcher.leaves_machine and not path.exists():
        return
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise PluginError(f"the backend's interpreter {python} {what}; give the path of a python, as of a venv's bin/")
    if not os.access(path, os.X_OK):
        raise PluginError(f"the backend's interpreter {python} is not executable")
    _judge(python, choice.name, _found(python, choice.name))


def _found(python: str, backend: str) -> dict[str, Any]:
    """What the interpreter has, as it says itself."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own interpreter
            [python, "-P", "-c", _PROBE, backend], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PluginError(f"the backend's interpreter {python} cannot be run: {error}") from error
    except (IndexError, ValueError) as error:
        said = done.stderr.strip().splitlines()[-1:] or [f"it ended with status {done.returncode} and said nothing"]
        raise PluginError(
            f"the backend's interpreter {python} is no Python of version 3.11 or newer that works: {said[0]}"
        ) from error
    return answer


def _judge(python: str, backend: str, found: dict[str, Any]) -> None:
    version = mnist_trials.__version__
    install = f"{python} -m pip install 'mnist-trials[{backend}]=={version}'"
    if found["version"] is None:
        raise PluginError(
            f"the backend's interpreter {python} has no mnist-trials ({found['missing']}); install it: {install}"
        )
    if found["version"] != version:
        raise PluginError(
            f"the backend's interpreter {python} has mnist-trials {found['version']}, and this is {version}; workers "
            f"must have the same: {install}"
        )
    if not found["known"]:
        raise PluginError(
            f"the backend's interpreter {python} has no backend '{backend}'; install the plugin there that offers it"
        )
    if found["reason"]:
        raise PluginError(f"the backend's interpreter {python}: {found['reason']}")
