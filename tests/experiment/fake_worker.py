"""A worker without torch: its "training" is a number that depends on every batch before, so a lost or repeated batch
shows. The hyperparameters say what goes wrong, and when.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mnist_trials.checkpoint.ids import new_checkpoint_id
from mnist_trials.checkpoint.manifest import FileEntry, Manifest
from mnist_trials.events import (
    CheckpointRejected,
    CheckpointSaved,
    DatasetChosen,
    GoOn,
    MetricsReported,
    Notice,
    ProgressReported,
    TrialExited,
    TrialHeld,
    TrialStarted,
    ValidationCompleted,
)
from mnist_trials.plugin import Channel, WorkerSpec
from mnist_trials.records import CheckpointInfo, ErrorInfo, Outcome

PER_EPOCH = 10
DEADLINE = 60


def run(spec: WorkerSpec, channel: Channel) -> int:
    return Fake(spec, channel).run() if spec.rank == 0 else Companion(spec, channel).run()


class Fake:
    def __init__(self, spec: WorkerSpec, channel: Channel) -> None:
        self.spec = spec
        self.channel = channel
        self.who = {"trial_id": spec.trial_id, "run": spec.run, "rank": spec.rank}
        self.hparams = spec.hparams
        self.batches = 0
        self.value = float(spec.seed % 1000)
        self.best: dict[str, float] = {}
        self.until = spec.until
        self.root = Path(spec.config["checkpoint_storage"].get("container_path") or spec.checkpoint_root)
        self.validated = self.saved = -1

    def run(self) -> int:
        checkpoint = self.restore()
        self.channel.emit(
            TrialStarted(
                **self.who,
                pid=os.getpid(),
                host="here",
                backend="cpu",
                device="cpu",
                batches=self.batches,
                checkpoint=checkpoint,
            )
        )
        self.channel.emit(DatasetChosen(**self.who, dataset="fake", detail="none at all"))
        if self.spec.size > 1:
            self.channel.emit(Notice(**self.who, message="every rank says this"))
        length = self.hparams.get("train_for") or self.spec.config["searcher"]["max_length"]["batches"]
        while self.batches < length:
            while self.until is not None and self.batches >= self.until:
                if (outcome := self.held()) is not None:
                    return self.exit(outcome)
            self.misbehave()
            self.batches += 1
            self.value = self.value * 0.875 + self.batches
            self.report()
            if self.batches < self.hparams.get("hears_from", 0):
                continue
            if (request := self.channel.stop_requested()) is not None:
                self.save()
                return self.exit(request.outcome)
        if self.batches != self.saved:
            self.save()
        self.mark("done").touch()
        return self.exit(Outcome.COMPLETED)

    def mark(self, what: str) -> Path:
        """A file by which rank 0 tells the other ranks of this run something."""
        return Path(self.spec.trial_dir, f"{what}-{self.spec.run}")

    def held(self) -> Outcome | None:
        """Be validated and saved here, and wait for word; None: go on."""
        if self.batches != self.validated:
            self.validate()
        self.misbehave("when_judged")
        if self.batches != self.saved:
            self.save()
        self.misbehave("when_held")
        self.channel.emit(TrialHeld(**self.who, batches=self.batches))
        word = self.channel.wait_for_word()
        if isinstance(word, GoOn):
            self.until = word.until
            return None
        return word.outcome

    def is_the_one(self) -> bool:
        """Whether this trial, in this run, is to misbehave."""
        trials, runs = self.hparams.get("in_trials"), self.hparams.get("in_runs")
        return (not trials or self.spec.trial_id in trials) and (not runs or self.spec.run in runs)

    def misbehave(self, at: str = "at") -> None:
        if self.batches != self.hparams.get(at) or not self.is_the_one():
            return
        if self.spec.rank != self.hparams.get("of_rank", 0):
            self.miss_the_other()
        self.do()

    def do(self) -> None:
        match self.hparams["do"]:
            case "raise":
                self.fail()
            case "raise_and_say_done":  # as two ranks would
                error = ErrorInfo(type="ValueError", message="the cause", traceback="", batches=self.batches)
                self.exit(Outcome.FAILED, error)
                sys.exit(self.exit(Outcome.COMPLETED))
            case "invalid":
                error = ErrorInfo(type="InvalidHP", message="lr too big", traceback="", batches=self.batches)
                sys.exit(self.exit(Outcome.INVALID_HP, error))
            case "claim":
                self.claim(Path(self.hparams["claims"]))
            case "exit" | "say_done_and_exit" as how:
                self.leave(says_done=how == "say_done_and_exit")
            case "kill_in_saving":
                (self.root / f".tmp-{new_checkpoint_id(self.spec.owner)}").mkdir()
                untold = self.root / new_checkpoint_id(self.spec.owner)
                untold.mkdir()
                (untold / "manifest.json").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hold" | "deaf" as how:
                self.hold(deaf=how == "deaf")
            case "wait_and_die" | "wait_and_raise" as how:
                self.hold()
                self.fail() if how == "wait_and_raise" else os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, *, says_done: bool) -> None:
        """End the process with the status that was asked for."""
        if says_done:
            self.exit(Outcome.COMPLETED)
        os._exit(self.hparams["code"])

    def miss_the_other(self) -> None:
        """Wait as a rank does whose companion is about to end; it is killed, or says that its companion is gone."""
        if self.hparams.get("lost_first"):
            error = ErrorInfo(type="DistBackendError", message="peer is gone", traceback="", batches=self.batches)
            self.exit(Outcome.FAILED, error)
        self.mark("reached").touch()
        time.sleep(DEADLINE)
        raise AssertionError("nobody ended this rank")

    def claim(self, folder: Path) -> None:
        """Fail if the workers that have claimed threads, together, have more than there are cores."""
        claims = folder / f"{self.spec.experiment_id}.{self.spec.trial_id}.{self.spec.run}"
        claims.write_text(str(sum(slot.threads for slot in self.spec.slots)))
        try:
            for _ in range(20):
                texts = [path.read_text() for path in folder.iterdir() if path.exists()]
                if sum(int(text) for text in texts if text) > len(os.sched_getaffinity(0)):
                    self.fail()
                time.sleep(0.01)
        finally:
            claims.unlink()

    def fail(self) -> None:
        error = ErrorInfo(
            type="ValueError",
            message=self.hparams.get("message", f"run {self.spec.run}"),
            traceback="Traceback: in the user's code",
            batches=self.batches,
            retryable=self.hparams.get("retryable", True),
        )
        sys.exit(self.exit(Outcome.FAILED, error))

    def hold(self, deaf: bool = False) -> None:
        """Wait for a request, or for the test to let go of it; `deaf` takes note of requests and waits on."""
        folder = Path(self.spec.trial_dir)
        self.channel.emit(Notice(**self.who, message="holding"))
        deadline = time.monotonic() + DEADLINE
        while not (folder / "go").exists():
            assert time.monotonic() < deadline, "nobody asked for anything"
            if self.channel.stop_requested() is not None:
                (folder / "asked").touch()
                if not deaf:
                    return
            self.channel.emit(
                ProgressReported(**self.who, batches=self.batches, epochs=0.0, records=0, total_batches=None)
            )
            time.sleep(0.01)

    def where(self) -> dict[str, Any]:
        return {
            **self.who,
            "batches": self.batches,
            "epochs": self.batches / PER_EPOCH,
            "records": self.batches * 4,
        }

    def report(self) -> None:
        if not self.hparams.get("quiet"):
            self.channel.emit(ProgressReported(**self.where(), total_batches=None))
            self.channel.emit(MetricsReported(**self.where(), metrics={"value": self.value}, seconds=0.0))
        if self.hparams.get("save_each"):
            if str(self.batches) in self.losses():
                self.validate()
            self.save()
        elif self.batches % self.hparams.get("validate_every", 2) == 0 or self.batches in self.spec.validate_at:
            self.validate()
            if self.batches % self.hparams.get("save_every", 2) == 0:
                self.save()

    def losses(self) -> dict[str, float]:
        """By batch, the metric of this trial, which is validated there only and saved after each batch."""
        losses: dict[str, dict[str, float]] = self.hparams.get("losses", {})
        return losses.get(str(self.spec.trial_id), {})

    def validate(self) -> None:
        self.validated = self.batches
        metrics: dict[str, Any] = {"loss": abs(self.value - self.hparams.get("target", 0)), "value": self.value}
        metrics |= {name: values[str(self.batches)] for name, values in self.hparams.get("metrics", {}).items()}
        if (loss := self.losses().get(str(self.batches))) is not None:
            metrics["loss"] = loss
        self.best = {name: value for name, value in metrics.items() if value != "missing"}
        self.channel.emit(ValidationCompleted(**self.where(), metrics=self.best, seconds=0.0))

    def save(self) -> None:
        self.saved = self.batches
        name = new_checkpoint_id(self.spec.owner)
        folder = self.root / name
        folder.mkdir(parents=True)
        state = json.dumps({"batches": self.batches, "value": self.value, "validated": self.validated})
        (folder / "state.json").write_text("damaged" if self.hparams.get("spoils") == self.batches else state)
        (folder / "manifest.json").write_bytes(self.manifest(state.encode()).to_bytes())
        info = CheckpointInfo(
            uuid=name,
            batches=self.batches,
            epochs=self.batches / PER_EPOCH,
            records=self.batches * 4,
            metrics=self.best if self.validated == self.batches else {},
            bytes=10,
            location=str(folder),
        )
        self.channel.emit(CheckpointSaved(**self.who, checkpoint=info))

    def manifest(self, state: bytes) -> Manifest:
        return Manifest(
            batches=self.batches,
            epochs=self.batches / PER_EPOCH,
            records=self.batches * 4,
            metrics={},
            hparams={},
            trial_class="fake_trial:Fake",
            experiment_id=self.spec.experiment_id,
            trial_id=self.spec.trial_id,
            config={},
            code=None,
            libraries={},
            tied={},
            files={"state.json": FileEntry(len(state), hashlib.sha256(state).hexdigest())},
        )

    def restore(self) -> str | None:
        if not self.spec.checkpoints and self.spec.warm_start is not None:
            state = json.loads((self.root / self.spec.warm_start / "state.json").read_text())
            self.value = state["value"]
            if self.spec.resume:
                self.batches = self.saved = state["batches"]
                self.validated = state["validated"]
        for name in self.spec.checkpoints:
            text = (self.root / name / "state.json").read_text()
            if text != "damaged":
                state = json.loads(text)
                self.batches, self.value = state["batches"], state["value"]
                self.saved, self.validated = self.batches, state["validated"]
                return name
            self.channel.emit(CheckpointRejected(**self.who, uuid=name, reason="not what was written"))
        return None

    def exit(self, outcome: Outcome, error: ErrorInfo | None = None) -> int:
        self.channel.emit(TrialExited(**self.who, outcome=outcome, batches=self.batches, error=error))
        return 0 if error is None else 1


class Companion(Fake):
    """A rank other than 0: it says what every rank says, misbehaves when rank 0 has come so far, and ends with it."""

    def run(self) -> int:
        self.channel.emit(Notice(**self.who, message="every rank says this"))
        deadline = time.monotonic() + DEADLINE
        while not self.mark("done").exists():
            assert time.monotonic() < deadline, "rank 0 never ended"
            if (request := self.channel.stop_requested()) is not None:
                return self.exit(request.outcome)
            if self.mark("reached").exists():
                self.batches = self.hparams["at"]
                self.misbehave()
            time.sleep(0.01)
        return self.exit(Outcome.COMPLETED)
