"""Trying a trial out without the device it is for, which may not be here, or be somebody else's now."""

from __future__ import annotations

from mnist_trials.config.schema import PluginChoice
from mnist_trials.errors import PluginError
from mnist_trials.experiment.slots import AUTO
from mnist_trials.plugin import Backend, PluginManager, own_options, python_of

_CPU = PluginChoice("cpu")


def stand_in(plugins: PluginManager, choice: PluginChoice) -> tuple[PluginChoice, Backend]:
    """The backend on which a trial for `choice` is tried out, and how a config would name it.

    Raises:
        PluginError: there is no backend of the name, it does not take the options, or no other can stand in for it.
    """
    if choice.name == AUTO:
        return _CPU, _made(plugins, _CPU)
    backend = _known(plugins, choice)
    other = backend.stand_in()
    if other is not None:
        return other, _made(plugins, other)
    if python_of(choice.name, choice.options) is not None:
        return choice, backend
    reason = plugins.backends()[choice.name].available()
    if reason is None and backend.slots(None):
        return choice, backend
    return _CPU, _made(plugins, _CPU)  # such as one that only a cluster has


def absence(plugins: PluginManager, choice: PluginChoice) -> str | None:
    """Why there is no device for `choice` on this machine, though its trials can be tried out; else None."""
    if choice.name == AUTO:
        return None
    try:
        stand_in(plugins, choice)
    except PluginError:
        return None
    reason = plugins.backends()[choice.name].available() or _without_slots(_known(plugins, choice))
    return reason and f"the backend '{choice.name}' cannot run on this machine ({reason.rstrip('.')})"


def _without_slots(backend: Backend) -> str | None:
    try:
        return None if backend.slots(None) else "it finds no device"
    except PluginError as error:
        return str(error)


def _known(plugins: PluginManager, choice: PluginChoice) -> Backend:
    """The backend of `choice`, whether it can be used here or not."""
    record = plugins.backends().get(choice.name) or plugins.find("backend", choice.name)
    return record.make(own_options(choice.options))


def _made(plugins: PluginManager, choice: PluginChoice) -> Backend:
    backend: Backend = plugins.find("backend", choice.name).make(own_options(choice.options))
    return backend
