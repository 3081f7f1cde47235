"""The hooks: one per kind of plugin, each giving records of (name, summary, factory)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

import pluggy

from mnist_trials.errors import MnistTrialsError, PluginError
from mnist_trials.plugin.backend import Backend
from mnist_trials.plugin.checkpoint_storage import CheckpointStorage
from mnist_trials.plugin.launcher import Launcher
from mnist_trials.plugin.logger import Logger
from mnist_trials.plugin.searcher import Searcher

PROJECT = "mnist_trials"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

T = TypeVar("T")

Options = Mapping[str, Any]
"""What stands beside `name:` (or `type:`) in the config. A factory raises PluginError for what it does not take."""


def _always_available() -> str | None:
    return None


@final
@dataclass(frozen=True, slots=True)
class PluginRecord(Generic[T]):
    """One plugin of one kind.

    `available` says in a sentence why the plugin cannot be used here, install command included, or None. It and the
    factory must be cheap: heavy libraries are imported when the plugin is used.
    """

    name: str
    summary: str
    factory: Callable[..., T]
    available: Callable[[], str | None] = _always_available
    aliases: tuple[str, ...] = ()

    def make(self, *arguments: Any) -> T:
        """What the factory makes of these.

        Raises:
            PluginError: it does not take them, or it failed: it is foreign code.
        """
        try:
            return self.factory(*arguments)
        except MnistTrialsError:
            raise
        except Exception as error:
            raise PluginError(f"The plugin '{self.name}' failed: {type(error).__name__}: {error}") from error


class Hooks:
    """The hook specifications."""

    @hookspec
    def mnist_trials_backends(self) -> Iterable[PluginRecord[Backend]]:  # type: ignore[empty-body]
        """Backends; factory(options: Options) -> Backend."""

    @hookspec
    def mnist_trials_searchers(self) -> Iterable[PluginRecord[Searcher]]:  # type: ignore[empty-body]
        """Searchers; factory(config: Mapping, hyperparameters: Mapping) -> Searcher.

        `config` is the `searcher` section and `hyperparameters` that section, both as resolved JSON values.
        """

    @hookspec
    def mnist_trials_checkpoint_storage(self) -> Iterable[PluginRecord[CheckpointStorage]]:  # type: ignore[empty-body]
        """Checkpoint storage; factory(options: Options, default_root: pathlib.Path) -> CheckpointStorage."""

    @hookspec
    def mnist_trials_launchers(self) -> Iterable[PluginRecord[Launcher]]:  # type: ignore[empty-body]
        """Launchers; factory(options: Options) -> Launcher."""

    @hookspec
    def mnist_trials_loggers(self) -> Iterable[PluginRecord[Logger]]:  # type: ignore[empty-body]
        """Loggers; factory(options: Options) -> Logger."""
