"""The tests that every logger must pass."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mnist_trials import events
from mnist_trials.errors import PluginError
from mnist_trials.events import Event
from mnist_trials.plugin import Logger, LoggerContext, get_plugins
from mnist_trials.records import CheckpointInfo, ErrorInfo, Histogram, Outcome, ProcessIdentity

HPARAMS: Mapping[str, Any] = {"lr": 0.1, "name": "café", "nested": {"sizes": [500, 300], "bias": None}}

SUMMARY: Mapping[str, Any] = {
    "experiment_id": 7,
    "name": "const",
    "state": "COMPLETED",
    "dataset": "mnist",
    "trials": [
        {
            "trial_id": 1,
            "state": "COMPLETED",
            "hyperparameters": dict(HPARAMS),
            "batches": 200,
            "epochs": 1.0,
            "restarts": 0,
            "stopped_early": False,
            "best_metric": 0.1,
            "latest_checkpoint": "d1e8",
        }
    ],
    "best": None,
    "wall_seconds": 3.5,
}

CONFIG: Mapping[str, Any] = {
    "name": "const",
    "project": "",
    "labels": ["first"],
    "entrypoint": "model:MyTrial",
    "hyperparameters": dict(HPARAMS),
    "searcher": {"name": "single", "metric": "validation_loss", "max_length": {"batches": 200}},
}


def every_event(trial_id: int, run: int = 1) -> list[Event]:
    """One run of a trial with an event of every kind."""
    who: dict[str, Any] = {"trial_id": trial_id, "run": run}
    at: dict[str, Any] = {"batches": 100, "epochs": 0.5, "records": 6400}
    values = {"loss": 0.25, "not finite": None}
    info = CheckpointInfo(uuid="d1e8", metrics=values, bytes=3, location="/somewhere/d1e8", **at)
    shape: dict[str, Any] = {"size": 4, "not_finite": 1, "counts": (1, 0, 2)}
    shape |= {"minimum": -1.0, "maximum": 1.0, "mean": 0.0, "std": 1.0}
    histograms = tuple(Histogram(kind=kind, name="fc1.weight", **shape) for kind in ("parameters", "gradients"))
    process = ProcessIdentity(pid=1, start_time="2", boot_id="3")
    return [
        events.WorkersLaunched(**who, processes=(process,)),
        events.TrialStarted(**who, pid=1, host="here", backend="cpu", device="cpu", batches=0, checkpoint=None),
        events.CheckpointRejected(**who, uuid="c0", reason="model.safetensors is missing"),
        events.DatasetChosen(**who, dataset="mnist", detail="60,000 records"),
        events.Notice(**who, message="something to tell"),
        events.ProgressReported(**who, **at, total_batches=200),
        events.MetricsReported(**who, **at, metrics=values, seconds=1.5),
        events.ValidationCompleted(**who, **at, metrics={"accuracy": 0.9, **values}, seconds=0.5),
        events.HistogramsReported(**who, **at, histograms=histograms),
        events.TrialTested(**who, **at, checkpoint="d1e8", metrics={"test_accuracy": 0.9}, seconds=0.5),
        events.CheckpointSaved(**who, checkpoint=info),
        events.TrialHeld(**who, batches=100),
        events.TrialExited(**who, outcome=Outcome.COMPLETED, batches=200),
        events.WorkersExited(**who, exit_codes=(0,)),
    ]


def made_up(directory: Path, experiment_id: int = 7) -> LoggerContext:
    """An experiment to follow."""
    return LoggerContext(experiment_id=experiment_id, name="const", config=CONFIG, directory=directory)


def be_killed(plugin: str, options: Mapping[str, Any], directory: str) -> None:
    """Follow the made-up experiment and end this process by SIGKILL in the middle of it."""
    logger = _make(plugin, options)
    logger.start(made_up(Path(directory)))
    logger.trial_created(1, HPARAMS)
    for event in every_event(1)[:7]:
        logger.event(event)
    os.kill(os.getpid(), signal.SIGKILL)


class LoggerSuite:
    """Subclass this in the tests of a logger plugin, which must be installed and available.

        class TestMyLogger(LoggerSuite):
            plugin = "my_logger"

            def options(self, root):
                return {"path": str(root / "log")}

    The tests follow experiments that are made up. What the logger writes where is for you to test.
    """

    plugin: ClassVar[str]
    """The plugin's name."""

    def options(self, root: Path) -> Mapping[str, Any]:
        """Options with which nothing leaves the machine; `root` is an empty folder of the test's own."""
        return {}

    @pytest.fixture
    def context(self, tmp_path: Path) -> LoggerContext:
        """The experiment to follow."""
        directory = tmp_path / "experiment"
        directory.mkdir()
        return made_up(directory)

    def make(self, root: Path) -> Logger:
        """A new logger, as a controller makes it."""
        return _make(self.plugin, self.options(root))

    def test_it_follows_an_experiment_to_its_end(self, context: LoggerContext, tmp_path: Path) -> None:
        """Every kind of event, in the order in which a trial sends them."""
        logger = self.make(tmp_path)
        logger.start(context)
        logger.trial_created(1, HPARAMS)
        for event in every_event(1):
            logger.event(event)
        logger.finish(SUMMARY)

    def test_trials_may_be_mixed(self, context: LoggerContext, tmp_path: Path) -> None:
        """Events of several trials come in turns."""
        logger = self.make(tmp_path)
        logger.start(context)
        for trial_id in (1, 2):
            logger.trial_created(trial_id, HPARAMS)
        for pair in zip(every_event(1), every_event(2), strict=True):
            for event in pair:
                logger.event(event)
        logger.finish(SUMMARY)

    def test_a_trial_may_fail_and_be_started_again(self, context: LoggerContext, tmp_path: Path) -> None:
        """The second run sends batches again that the first has sent."""
        logger = self.make(tmp_path)
        logger.start(context)
        logger.trial_created(1, HPARAMS)
        error = ErrorInfo(type="ValueError", message="no", traceback="...", batches=150)
        for event in every_event(1)[:-2]:
            logger.event(event)
        logger.event(_metrics(1, run=1, batches=150))
        logger.event(events.TrialExited(trial_id=1, run=1, outcome=Outcome.FAILED, batches=150, error=error))
        logger.event(events.WorkersExited(trial_id=1, run=1, exit_codes=(1,)))
        for event in every_event(1, run=2):
            logger.event(event)
        logger.finish(SUMMARY)

    def test_a_trial_may_be_killed_without_a_word(self, context: LoggerContext, tmp_path: Path) -> None:
        """Only the launcher tells of it."""
        logger = self.make(tmp_path)
        logger.start(context)
        logger.trial_created(1, HPARAMS)
        logger.event(every_event(1)[1])
        logger.event(events.WorkersExited(trial_id=1, run=1, exit_codes=(-9,), reason="killed"))
        logger.finish({**SUMMARY, "state": "ERROR"})

    def test_an_experiment_may_go_on_later(self, context: LoggerContext, tmp_path: Path) -> None:
        """A new controller's logger gets the same context; trials of before are not created again."""
        first = self.make(tmp_path)
        first.start(context)
        first.trial_created(1, HPARAMS)
        for event in every_event(1)[:-2]:
            first.event(event)
        first.finish({**SUMMARY, "state": "PAUSED"})
        second = self.make(tmp_path)
        second.start(context)
        for event in every_event(1, run=2):
            second.event(event)
        second.finish(SUMMARY)

    def test_a_controller_may_be_killed(self, context: LoggerContext, tmp_path: Path) -> None:
        """In the middle of a trial; the next one goes on."""
        program = (
            "import json, sys; from mnist_trials.testing import logger; logger.be_killed(*json.loads(sys.argv[1]))"
        )
        arguments = json.dumps([self.plugin, dict(self.options(tmp_path)), str(context.directory)])
        done = subprocess.run([sys.executable, "-c", program, arguments], timeout=120, check=False)  # noqa: S603
        assert done.returncode == -signal.SIGKILL
        logger = self.make(tmp_path)
        logger.start(context)
        for event in every_event(1, run=2):
            logger.event(event)
        logger.finish(SUMMARY)

    def test_an_experiment_may_end_before_it_began(self, context: LoggerContext, tmp_path: Path) -> None:
        """Cancelled at once: no trials, no events."""
        logger = self.make(tmp_path)
        logger.start(context)
        logger.finish({**SUMMARY, "state": "CANCELED", "trials": []})

    def test_nothing_is_printed(
        self, context: LoggerContext, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Standard output belongs to the command, which may promise exactly one JSON document on it."""
        logger = self.make(tmp_path)
        logger.start(context)
        logger.trial_created(1, HPARAMS)
        for event in every_event(1):
            logger.event(event)
        logger.finish(SUMMARY)
        assert capfd.readouterr().out == ""

    def test_unknown_options_are_refused_by_name(self, tmp_path: Path) -> None:
        """The text names the option that is unknown."""
        factory = get_plugins().find("logger", self.plugin).factory
        with pytest.raises(PluginError, match="no_such_option"):
            factory({**self.options(tmp_path), "no_such_option": 1})


def _make(plugin: str, options: Mapping[str, Any]) -> Logger:
    logger: Logger = get_plugins().find("logger", plugin).factory(options)
    return logger


def _metrics(trial_id: int, *, run: int, batches: int) -> Event:
    return events.MetricsReported(
        trial_id=trial_id,
        run=run,
        batches=batches,
        epochs=batches / 200,
        records=batches * 64,
        metrics={"loss": 0.2},
        seconds=1.0,
    )
