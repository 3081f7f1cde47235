"""`drive.py HOME ID`: a controller in a process of its own, whose workers are the fake ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import elsewhere
import scripted_searcher

from mnist_trials.experiment.life import take_charge

if __name__ == "__main__":
    elsewhere.install()
    scripted_searcher.install()
    home, experiment_id = sys.argv[1:]
    print(json.dumps(take_charge(Path(home), int(experiment_id), target="fake_worker:run")))
