"""The plugins an experiment runs on, made from its config."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mnist_trials.config import ExperimentConfig, sample
from mnist_trials.config.schema import PluginChoice
from mnist_trials.experiment.offer import Offer, make_offer
from mnist_trials.experiment.slots import concurrency, first_trials, resolve_backend
from mnist_trials.plugin import (
    Backend,
    CheckpointStorage,
    Launcher,
    Logger,
    PluginManager,
    PluginRecord,
    Searcher,
    SearcherContext,
)

DEFAULT_STORAGE = PluginChoice("directory")
TEST_SEARCHER = "single"


@final
@dataclass(frozen=True, slots=True)
class Machinery:
    """Everything a controller works with besides the store."""

    searcher: Searcher
    launcher: Launcher
    backend: Backend
    offer: Offer
    storage: CheckpointStorage
    loggers: tuple[Logger, ...]


@final
class Workshop:
    """Makes the plugins of one config, each by itself, so that a check can go on after one that fails.

    Every method raises PluginError for a plugin that is unknown, unavailable, or does not take its options.
    """

    def __init__(self, plugins: PluginManager, config: ExperimentConfig, options: Mapping[str, Any]) -> None:
        self._plugins = plugins
        self._config = config
        self._options = options

    def machinery(self, default_root: Path) -> Machinery:
        """All that a controller needs; see `storage`."""
        with ExitStack() as undo:
            launcher = undo.enter_context(closing(self.launcher()))
            name, backend = self.backend(launcher)
            made = Machinery(
                searcher=self._searcher_to_run(),
                launcher=launcher,
                backend=backend,
                offer=self.offer(name, backend, launcher),
                storage=self.storage(default_root),
                loggers=tuple(self.logger(choice) for choice in self._config.loggers),
            )
            undo.pop_all()
        return made

    def searcher(self) -> Searcher:
        """The config's searcher, fresh."""
        return self._searcher(self._config.searcher.name)

    def launcher(self) -> Launcher:
        """The launcher."""
        choice = self._config.launcher
        record: PluginRecord[Launcher] = self._plugins.find("launcher", choice.name)
        return record.make(choice.options)

    def logger(self, choice: PluginChoice) -> Logger:
        """One of the loggers."""
        record: PluginRecord[Logger] = self._plugins.find("logger", choice.name)
        return record.make(choice.options)

    def storage(self, default_root: Path) -> CheckpointStorage:
        """Where the checkpoints lie: in `default_root` if the config names no storage."""
        choice = self._config.checkpoint_storage.storage or DEFAULT_STORAGE
        record: PluginRecord[CheckpointStorage] = self._plugins.find("checkpoint_storage", choice.name)
        return record.make(choice.options, default_root)

    def backend(self, launcher: Launcher | None) -> tuple[str, Backend]:
        """The backend and its name, `auto` resolved. `launcher` None: on this machine."""
        return resolve_backend(self._plugins, self._config.backend, launcher)

    def offer(self, name: str, backend: Backend, launcher: Launcher) -> Offer:
        """The slots for the experiment: enough for one trial at least."""
        return make_offer(name, backend, launcher, self._config, self._options.get("slots"), self._at_once())

    def _searcher_to_run(self) -> Searcher:
        """With --test one trial of the search, to see that it works."""
        return self._searcher(TEST_SEARCHER if self._options.get("test") else self._config.searcher.name)

    def _searcher(self, name: str) -> Searcher:
        record: PluginRecord[Searcher] = self._plugins.find("searcher", name)
        return record.make(self._config.searcher.settings, self._config.hyperparameters)

    def _at_once(self) -> int:
        seed, hyperparameters = self._config.experiment_seed, self._config.hyperparameters
        context = SearcherContext(experiment_seed=seed, sample=lambda index: sample(hyperparameters, seed, index))
        first = first_trials(self._searcher_to_run(), context)
        return min(first, concurrency(self._config) or first)
