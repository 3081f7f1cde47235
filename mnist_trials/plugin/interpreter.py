"""The interpreter that a backend's workers run in, where its config names one: `backend: {name: xla, python: PATH}`.

So a trial can be trained in an environment with another torch than the one that the experiment is run from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mnist_trials.errors import PluginError
from mnist_trials.plugin.options import text_option

_PYTHON: Final = "python"


def python_of(backend: str, options: Mapping[str, Any]) -> str | None:
    """The path of the interpreter that `options`, those of the backend's config, name; None: the runtime's own.

    Raises:
        PluginError: it is no absolute path. It is not looked at whether there is such a file.
    """
    given = text_option(f"the backend '{backend}'", options, _PYTHON)
    if given is None:
        return None
    path = Path(given).expanduser()
    if not path.is_absolute():
        raise PluginError(
            f"'{_PYTHON}' of the backend '{backend}' is the path of an interpreter and begins with / or ~, as in "
            f"/opt/xla/bin/python; it is {given!r}."
        )
    return str(path)


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of `options` is the backend's own: any backend may name an interpreter, and none has to know."""
    return {name: value for name, value in options.items() if name != _PYTHON}
