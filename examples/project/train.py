"""Trains the trial from a script of your own.

`python3 train.py` runs it here and now, and `python3 -m mnist_trials.launch.torch_distributed python3 train.py` on all
slots of this machine. Either line is a trial of an experiment too, with its hyperparameters, logs, checkpoints and
restarts, when a config has it as its `entrypoint` in place of `trial:MNISTTrial`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from trial import MNISTTrial

import mnist_trials as mt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1, help="how many times to go through the data (default: 1)")
    arguments = parser.parse_args()

    # By itself the script takes its hyperparameters from const.yaml; in an experiment they are the trial's own.
    with mt.init(config=Path(__file__).with_name("const.yaml")) as context:
        trainer = mt.Trainer(MNISTTrial(context), context)
        result = trainer.fit(max_length=mt.Epoch(arguments.epochs))
        if context.rank == 0:  # of as many processes as there are slots; all of them have the same result
            print(f"After {result.batches} batches: {dict(result.metrics)}")


if __name__ == "__main__":
    main()
