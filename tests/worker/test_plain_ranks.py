"""Plain scripts on two ranks: the same `mt.init()`, under torchrun and under the launch layer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.worker.test_scripts import TRAIN

DEADLINE = 120.0

LAYER = ["-m", "mnist_trials.launch.torch_distributed", "--slots", "2"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@contextmanager
def started(project: Path, launcher: list[str], *command: str) -> Iterator[subprocess.Popen[str]]:
    hidden = ("RANK", "WORLD_SIZE", "MNIST_TRIALS_WORKER")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with subprocess.Popen(
        [sys.executable, *launcher, *command],
        cwd=project,
        env={**environment, "MNIST_TRIALS_HOME": str(project.parent / "home"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        late = threading.Timer(DEADLINE, process.kill)
        late.start()
        yield process
        late.cancel()


@pytest.mark.slow
def test_under_torchrun_the_ranks_train_one_trial_and_rank_0_alone_tells(project: Path) -> None:
    (project / "train.py").write_text(TRAIN.format(batches=20))
    with started(project, TORCHRUN, "train.py") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    for line in ("Training on cpu", "training    batch 20/20", "validation  batch 20/20", "Checkpoint: "):
        assert out.count(line) == 1, out
    assert out.count("after 20 completed\n") == 2
    (checkpoint,) = (project.parent / "home" / "scripts" / "train" / "checkpoints").iterdir()
    assert f"Checkpoint: {checkpoint}\n" in out


def test_ctrl_c_saves_one_checkpoint_and_ends_every_rank_with_130(project: Path) -> None:
    (project / "train.py").write_text(TRAIN.format(batches=10_000_000))
    with started(project, LAYER, "python3", "train.py") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("[rank=0] training") for line in lines), process.stderr.read()
        process.send_signal(signal.SIGINT)
        rest = "".join(lines)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert rest.count("Interrupted: a checkpoint is saved after this batch.") == 1
    ended = re.findall(r"^\[rank=(\d)\] after (\d+) paused$", rest, re.MULTILINE)
    assert {rank for rank, _ in ended} == {"0", "1"}
    assert len({batches for _, batches in ended}) == 1
    (saved,) = re.findall(r"^\[rank=0\] Checkpoint: (.*)$", rest, re.MULTILINE)
    assert Path(saved, "manifest.json").is_file()
    assert "Traceback" not in said


@pytest.mark.slow
def test_an_exception_of_one_rank_ends_both_and_is_the_only_one_shown(project: Path) -> None:
    code = TRAIN.format(batches=20).replace('config="const.yaml"', "config='const.yaml', hparams=HOW")
    how = "{'fail_at': 3, 'fail_by': 'if self.context.rank == 1: raise ValueError(1)'}"
    (project / "train.py").write_text(code.replace("HOW", how))
    with started(project, LAYER, "python3", "train.py") as process:
        _, err = process.communicate()
    assert process.returncode == 1
    assert err.count("Traceback") == 1
    assert re.search(r"^\[rank=1\] (\[rank1\]: )?ValueError: 1$", err, re.MULTILINE)  # torch marks it too
    assert err.splitlines()[-1].endswith("rank 1 ended with status 1; so all are ended.")
