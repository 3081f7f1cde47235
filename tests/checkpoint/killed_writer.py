"""Started by a test: for each fault point named, a process writes a checkpoint of that name and is killed there."""

import os
import signal
import sys
from pathlib import Path

import torch

from mnist_trials.checkpoint import CheckpointContent, write_checkpoint
from mnist_trials.plugin import get_plugins

CONTENT = CheckpointContent(
    model={"weight": torch.arange(5000.0)},
    state={"optimizer": {"momentum": torch.ones(5000)}},
    batches=1,
    epochs=1.0,
    records=1,
    metrics={},
    hparams={},
    trial_class="model:MyTrial",
    experiment_id=1,
    trial_id=1,
    config={},
    code=None,
)


def main(root: Path, points: list[str]) -> None:
    storage = get_plugins().find("checkpoint_storage", "directory").factory({}, root)
    for point in points:
        pid = os.fork()
        if pid == 0:
            os.environ["MNIST_TRIALS_FAULT"] = f"{point}:kill"
            write_checkpoint(storage, point, CONTENT)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == -signal.SIGKILL, (point, status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
