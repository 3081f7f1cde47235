"""A worker process, as the launcher `local` starts it: `python -m mnist_trials.worker SPEC EVENTS_FD REQUESTS_FD`."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import MnistTrialsError
from mnist_trials.plugin import WorkerSpec, resolve_target
from mnist_trials.worker.channel import PipeChannel, write_event
from mnist_trials.worker.command import become, without_launch_layer
from mnist_trials.worker.main import fail, notice_of, run
from mnist_trials.worker.recorder import Recorder
from mnist_trials.worker.seat import Address

_GRACE_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    """Do what the spec says; returns the exit status."""
    if len(arguments) != 3:
        print("This starts a worker process and is meant for launchers. People use: mnist-trials", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    spec = WorkerSpec.from_json(json.loads(path.read_text(encoding="utf-8")))
    address = Address.of(path, int(arguments[1]), int(arguments[2]))
    target = resolve_target(spec)
    try:
        if target is run and (command := ExperimentConfig.from_dict(spec.config).entrypoint.command):
            command, notice = without_launch_layer(command)
            if notice and spec.rank == 0:
                write_event(address.events, notice_of(spec, notice))
            become(command, address)
    except MnistTrialsError as error:
        return fail(spec, Recorder(_connect(address)), error)
    status = target(spec, _connect(address))
    _end_without_its_threads(status)
    return status


def _end_without_its_threads(status: int) -> None:
    """Let threads that the trial left running end by themselves for a while, then end the process all the same."""

    def end() -> None:
        left = [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]
        if left:  # else the interpreter is busy with its own end
            print(f"The trial has ended, but not its threads {', '.join(left)}: they are cut off.", file=sys.stderr)
            sys.stderr.flush()
            os._exit(status)

    timer = threading.Timer(_GRACE_SECONDS, end)
    timer.daemon = True
    timer.start()


def _connect(address: Address) -> PipeChannel:
    return PipeChannel(address.events, address.requests, address.group)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
