"""`python -m mnist_trials.experiment HOME ID`: the controller in the background, as `background.start` starts it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mnist_trials.errors import MnistTrialsError
from mnist_trials.experiment.life import take_charge


def main(arguments: Sequence[str]) -> int:
    """Run the experiment to its end; 0 unless the controller itself could not go on."""
    home, experiment_id = arguments
    try:
        summary = take_charge(Path(home), int(experiment_id))
    except MnistTrialsError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(f"experiment {experiment_id}: {summary['state']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
