"""The plugins an experiment runs on, made from its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mnist_trials.config import ExperimentConfig, sample
from mnist_trials.config.schema import PluginChoice
from mnist_trials.experiment.slots import concurrency, first_trials, resolve_backend, slots_per_trial, take_slots
from mnist_trials.plugin import (
    Backend,
    CheckpointStorage,
    Launcher,
    Logger,
    PluginError,
    PluginManager,
    PluginRecord,
    Searcher,
    SearcherContext,
)
from mnist_trials.records import Slot

DEFAULT_STORAGE = PluginChoice("directory")
TEST_SEARCHER = "single"


@final
@dataclass(frozen=True, slots=True)
class Machinery:
    """Everything a controller works with besides the store."""

    searcher: Searcher
    launcher: Launcher
    backend_name: str
    backend: Backend
    slots: tuple[Slot, ...]
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

    def machinery(self) -> Machinery:
        """All that a controller needs."""
        name, backend = self.backend()
        return Machinery(
            searcher=self._searcher_to_run(),
            launcher=self.launcher(),
            backend_name=name,
            backend=backend,
            slots=self.slots(backend),
            loggers=tuple(self.logger(choice) for choice in self._config.loggers),
        )

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
        """Where the checkpoints lie."""
        choice = self._config.checkpoint_storage.storage or DEFAULT_STORAGE
        record: PluginRecord[CheckpointStorage] = self._plugins.find("checkpoint_storage", choice.name)
        return record.make(choice.options, default_root)

    def backend(self) -> tuple[str, Backend]:
        """The backend and its name, `auto` resolved."""
        return resolve_backend(self._plugins, self._config.backend)

    def slots(self, backend: Backend) -> tuple[Slot, ...]:
        """The slots of this machine for the experiment: enough for one trial at least."""
        slots = take_slots(backend, self._config, self._options.get("slots"), self._at_once())
        needed = slots_per_trial(self._config)
        if needed > len(slots):
            there = ", ".join(f"{slot.id} ({slot.description})" for slot in slots) or "none"
            raise PluginError(f"a trial takes {needed} slots, but this machine offers {len(slots)}: {there}")
        return slots

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
