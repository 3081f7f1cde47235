"""What lies where under the home."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

VARIABLE = "MNIST_TRIALS_HOME"
DEFAULT = "~/.mnist-trials"


def resolve_home(home: str | Path | None = None) -> Path:
    """`home` as given, else MNIST_TRIALS_HOME, else ~/.mnist-trials; absolute. Nothing is made."""
    return Path(home or os.environ.get(VARIABLE) or DEFAULT).expanduser().absolute()


def last_number(home: Path) -> int:
    """The highest number of an experiment that has run in `home` by its files; 0 for none.

    The store knows better, unless it was lost and begun anew: then a new experiment must not take an old one's number,
    or it would take the old one's checkpoints for what is left of a run of its own.
    """
    ran = {path.parent.name for path in home.glob("experiments/*/controller.lock")}
    names = ran | {path.name for path in home.glob("checkpoints/*")}
    return max((int(name) for name in names if name.isdecimal()), default=0)


@final
@dataclass(frozen=True, slots=True)
class ExperimentFiles:
    """The paths of one experiment. Nothing is made by asking for one."""

    home: Path
    experiment_id: int

    @property
    def directory(self) -> Path:
        """The experiment's folder."""
        return self.home / "experiments" / str(self.experiment_id)

    @property
    def config(self) -> Path:
        """The config as it was given, for a person."""
        return self.directory / "config.yaml"

    @property
    def context(self) -> Path:
        """The snapshot of the user's code."""
        return self.directory / "context"

    @property
    def lock(self) -> Path:
        """Locked by the controller for as long as it lives."""
        return self.directory / "controller.lock"

    @property
    def controller_log(self) -> Path:
        """What a controller in the background prints."""
        return self.directory / "controller.log"

    @property
    def logger_files(self) -> Path:
        """Where loggers may write."""
        return self.directory / "loggers"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie when the config names no storage; this experiment's only."""
        return self.home / "checkpoints" / str(self.experiment_id)

    @property
    def in_use(self) -> Path:
        """By checkpoint, a file that is locked while somebody reads it."""
        return self.directory / "in_use"

    @property
    def source(self) -> Path:
        """By checkpoint, a copy of the one that the trials start from, where they could not get at the original."""
        return self.directory / "source"

    def trial(self, trial_id: int) -> Path:
        """A trial's own folder, kept between its runs."""
        return self.directory / "trials" / str(trial_id)

    def trial_log(self, trial_id: int) -> Path:
        """What the trial's workers print, every run and rank."""
        return self.trial(trial_id) / "log.txt"
