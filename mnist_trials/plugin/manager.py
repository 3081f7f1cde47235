"""Finds plugins and gives them out by name. The only module that calls `pm.hook`."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Literal, final

import pluggy

from mnist_trials.errors import PluginError
from mnist_trials.plugin.backend import Backend
from mnist_trials.plugin.checkpoint_storage import CheckpointStorage
from mnist_trials.plugin.launcher import Launcher
from mnist_trials.plugin.logger import Logger
from mnist_trials.plugin.searcher import Searcher
from mnist_trials.plugin.spec import PROJECT, Hooks, PluginRecord

Kind = Literal["backend", "searcher", "checkpoint_storage", "launcher", "logger"]
KINDS: tuple[Kind, ...] = ("backend", "searcher", "checkpoint_storage", "launcher", "logger")
_SPOKEN = {"checkpoint_storage": "checkpoint storage"}

ONLY = "MNIST_TRIALS_PLUGINS"
"""The variable that names the entry points to load, separated by commas; all others are left alone."""


@final
@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One line of `mnist-trials plugins`."""

    kind: str
    name: str
    summary: str
    entry_point: str
    distribution: str
    version: str
    unavailable: str | None  # why it cannot be used here


@final
@dataclass(frozen=True, slots=True)
class _Source:
    entry_point: str
    distribution: str
    version: str


@final
class PluginManager:
    """All installed plugins. Loading one that is broken fails for that one only; `plugins()` says why."""

    def __init__(self) -> None:
        self._pm = pluggy.PluginManager(PROJECT)
        self._pm.add_hookspecs(Hooks)
        self._sources: dict[str, _Source] = {}
        self._broken: list[PluginInfo] = []

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin that is not installed, such as one made in a test.

        Raises:
            PluginError: it has a hook that does not exist.
        """
        registered = self._pm.register(plugin, name)
        try:
            self._pm.check_pending()
        except pluggy.PluginValidationError as error:
            self._pm.unregister(plugin)
            raise PluginError(str(error)) from error
        self._sources.setdefault(str(registered), _Source(str(registered), "(registered at run time)", ""))

    def load_installed(self) -> None:
        """Load the entry points of every installed distribution, or those that MNIST_TRIALS_PLUGINS names."""
        wanted = _wanted()
        seen: set[str] = set()
        for distribution in distributions():
            for entry_point in distribution.entry_points:
                if entry_point.group != PROJECT or entry_point.name in seen:
                    continue
                seen.add(entry_point.name)
                if wanted is None or entry_point.name in wanted:
                    self._load(entry_point, distribution)
        if wanted is not None and (absent := wanted - seen):
            raise PluginError(
                f"{ONLY} names {', '.join(sorted(absent))}, which no installed distribution offers. "
                f"Offered: {', '.join(sorted(seen)) or 'none'}."
            )

    def _load(self, entry_point: EntryPoint, distribution: Distribution) -> None:
        source = _Source(entry_point.name, distribution.metadata["Name"], distribution.version)
        try:
            self._sources[entry_point.name] = source
            self.register(entry_point.load(), entry_point.name)
            self._require_records(entry_point.name)
        except Exception as error:  # a plugin is foreign code: whatever it raises must not take the rest with it
            del self._sources[entry_point.name]
            if self._pm.has_plugin(entry_point.name):
                self._pm.unregister(name=entry_point.name)
            reason = f"failed to load: {type(error).__name__}: {error}"
            info = PluginInfo(
                "?", entry_point.name, "", source.entry_point, source.distribution, source.version, reason
            )
            self._broken.append(info)

    def _require_records(self, plugin_name: str) -> None:
        """Ask each hook of a plugin once: what it raises now, it cannot raise later."""
        for caller in self._pm.get_hookcallers(self._pm.get_plugin(plugin_name)) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin_name != plugin_name:
                    continue
                records: Any = implementation.function()
                for record in records:
                    if not isinstance(record, PluginRecord):
                        raise TypeError(f"{caller.name} gave {record!r}, which is no PluginRecord")

    def backends(self) -> dict[str, PluginRecord[Backend]]:
        """Backends by name, aliases included."""
        return self._records("mnist_trials_backends")

    def searchers(self) -> dict[str, PluginRecord[Searcher]]:
        """Searchers by name, aliases included."""
        return self._records("mnist_trials_searchers")

    def checkpoint_storages(self) -> dict[str, PluginRecord[CheckpointStorage]]:
        """Checkpoint storages by name, aliases included."""
        return self._records("mnist_trials_checkpoint_storage")

    def launchers(self) -> dict[str, PluginRecord[Launcher]]:
        """Launchers by name, aliases included."""
        return self._records("mnist_trials_launchers")

    def loggers(self) -> dict[str, PluginRecord[Logger]]:
        """Loggers by name, aliases included."""
        return self._records("mnist_trials_loggers")

    def find(self, kind: Kind, name: str) -> PluginRecord[Any]:
        """The plugin of that kind and name (or alias).

        Raises:
            PluginError: there is none (the text has the nearest and all known names), or it is not available here.
        """
        offers = self._offers(_HOOK[kind])
        if name not in offers:
            raise PluginError(self._unknown(kind, name, offers))
        (_, record), *others = offers[name]
        if others:
            raise PluginError(self._clash(name, offers[name]))
        if reason := _reason(record):
            raise PluginError(f"The {_spoken(kind)} '{name}' is not available: {reason}")
        return record

    def names(self, kind: Kind) -> list[str]:
        """The names of a kind, without aliases, sorted."""
        return sorted({record.name for _, record in self._with_plugin_names(_HOOK[kind])})

    def plugins(self) -> list[PluginInfo]:
        """Every plugin, by kind and name, those that could not be loaded last."""
        found = []
        for kind in KINDS:
            for plugin_name, record in self._with_plugin_names(_HOOK[kind]):
                source = self._sources[plugin_name]
                found.append(
                    PluginInfo(
                        kind,
                        record.name,
                        record.summary,
                        source.entry_point,
                        source.distribution,
                        source.version,
                        _reason(record),
                    )
                )
        return sorted(found, key=lambda info: (info.kind, info.name)) + self._broken

    def _unknown(self, kind: Kind, name: str, known: Collection[str]) -> str:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        broken = "".join(f" The plugin '{info.name}' {info.unavailable}." for info in self._broken)
        names = ", ".join(self.names(kind)) or "none"
        return f"No {_spoken(kind)} is named '{name}'.{hint} Known: {names}.{broken}"

    def _records(self, hook: str) -> dict[str, PluginRecord[Any]]:
        records = {}
        for name, offers in self._offers(hook).items():
            (_, record), *others = offers
            if others:
                raise PluginError(self._clash(name, offers))
            records[name] = record
        return records

    def _offers(self, hook: str) -> dict[str, list[tuple[str, PluginRecord[Any]]]]:
        """By name or alias, the entry points that offer it and their records; more than one is a clash."""
        offers: dict[str, list[tuple[str, PluginRecord[Any]]]] = {}
        for plugin_name, record in self._with_plugin_names(hook):
            for name in (record.name, *record.aliases):
                offers.setdefault(name, []).append((plugin_name, record))
        return offers

    def _clash(self, name: str, offers: Sequence[tuple[str, PluginRecord[Any]]]) -> str:
        sources = [self._sources[plugin_name] for plugin_name, _ in offers]
        listed = " and ".join(f"'{source.entry_point}' of {source.distribution}" for source in sources)
        return f"Two plugins are named '{name}': {listed}. Uninstall one, or name those to load in {ONLY}."

    def _with_plugin_names(self, hook: str) -> list[tuple[str, PluginRecord[Any]]]:
        caller = getattr(self._pm.hook, hook)
        return [
            (implementation.plugin_name, record)
            for implementation in caller.get_hookimpls()
            for record in implementation.function()
        ]


_HOOK: dict[Kind, str] = {
    "backend": "mnist_trials_backends",
    "searcher": "mnist_trials_searchers",
    "checkpoint_storage": "mnist_trials_checkpoint_storage",
    "launcher": "mnist_trials_launchers",
    "logger": "mnist_trials_loggers",
}


def _spoken(kind: Kind) -> str:
    return _SPOKEN.get(kind, kind)


def _reason(record: PluginRecord[Any]) -> str | None:
    try:
        return record.available()
    except Exception as error:  # foreign code
        return f"it failed to say whether it is available: {type(error).__name__}: {error}"


def _wanted() -> set[str] | None:
    value = os.environ.get(ONLY)
    return None if value is None else {name.strip() for name in value.split(",") if name.strip()}


@functools.cache
def get_plugins() -> PluginManager:
    """The process's plugin manager, with all installed plugins loaded at the first call."""
    manager = PluginManager()
    manager.load_installed()
    return manager
