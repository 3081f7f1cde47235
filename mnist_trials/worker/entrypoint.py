"""From `module:Class` in a config to the class."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from mnist_trials.errors import TrialError

if TYPE_CHECKING:
    from mnist_trials.training.trial import Trial


def load_trial_class(entrypoint: str, context_dir: Path) -> type[Trial]:
    """Import the Trial class that `entrypoint` (`module:Class`) names; puts `context_dir` first on `sys.path`.

    Raises:
        TrialError: there is no such module or class, or it is no Trial; the text has the nearest name.
        Exception: whatever the user's module raises when it is imported, with a note that says so.
    """
    module_name, _, class_name = entrypoint.partition(":")
    if sys.path[:1] != [str(context_dir)]:
        sys.path.insert(0, str(context_dir))
    importlib.invalidate_caches()
    module = _import(module_name, entrypoint, context_dir)
    found: object = module
    for part in class_name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise TrialError(_no_such_class(entrypoint, class_name, module))
    if not _is_trial(found):
        raise TrialError(f"The entrypoint '{entrypoint}' is {_what_else(found)}.")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise TrialError(f"The Trial '{entrypoint}' lacks {', '.join(f'{name}()' for name in missing)}.")
    return cast("type[Trial]", found)


def _is_trial(value: object) -> bool:
    from mnist_trials.training import trial

    return isinstance(value, type) and issubclass(value, trial.Trial) and value is not trial.Trial


def _what_else(found: object) -> str:
    from mnist_trials.training import trial

    if found is trial.Trial:
        return "Trial itself: name the class that you derive from it"
    if isinstance(found, type):
        return f"a class, but not a Trial: write `class {found.__name__}(mnist_trials.Trial)`"
    return f"a {type(found).__name__}, but not a Trial: name a class that derives from mnist_trials.Trial"


def _import(name: str, entrypoint: str, context_dir: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TrialError(_no_such_module(name, entrypoint, context_dir)) from None
        error.add_note(f"Raised while importing the entrypoint '{entrypoint}'.")
        raise
    except BaseException as error:
        error.add_note(f"Raised while importing the entrypoint '{entrypoint}'.")
        raise


def _no_such_module(name: str, entrypoint: str, context_dir: Path) -> str:
    packages = {path.parent.name for path in context_dir.glob("*/__init__.py")}
    known = sorted(packages | {path.stem for path in context_dir.glob("*.py")})
    return (
        f"The entrypoint '{entrypoint}' names the module '{name}', which is not in {context_dir}."
        f"{_nearest(name, known)} Modules there: {', '.join(known) or 'none'}."
    )


def _no_such_class(entrypoint: str, class_name: str, module: ModuleType) -> str:
    trials = sorted(name for name, value in vars(module).items() if _is_trial(value))
    near = _nearest(class_name, trials)
    where = getattr(module, "__file__", None) or "a module without a file"
    return (
        f"The entrypoint '{entrypoint}' names the class '{class_name}', which is not in {where}.{near} "
        f"Trials there: {', '.join(trials) or 'none'}."
    )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
