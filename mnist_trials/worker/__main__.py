"""A worker process, as the launcher `local` starts it: `python -m mnist_trials.worker SPEC EVENTS_FD REQUESTS_FD`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import MnistTrialsError
from mnist_trials.plugin import WorkerSpec, resolve_target
from mnist_trials.worker.channel import PipeChannel
from mnist_trials.worker.command import become, without_launch_layer
from mnist_trials.worker.main import fail, run
from mnist_trials.worker.recorder import Recorder
from mnist_trials.worker.seat import Address


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
            become(without_launch_layer(command), address)
    except MnistTrialsError as error:
        return fail(spec, Recorder(_connect(address)), error)
    return target(spec, _connect(address))


def _connect(address: Address) -> PipeChannel:
    return PipeChannel(address.events, address.requests, address.group)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
