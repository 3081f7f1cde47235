"""A new experiment made of the config and the code of one that is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnist_trials.experiment import submission
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.modes import mode_of
from mnist_trials.experiment.submission import Submission
from mnist_trials.store import open_reader
from mnist_trials.store.rows import ExperimentRow

OPTION = "forked_from"
"""Where among an experiment's options it is kept which one it is a fork of."""


def check_fork(
    home: Path,
    experiment_id: int,
    *,
    overrides: Sequence[str] = (),
    launcher: str | None = None,
    slots: submission.Slots | None = None,
    data_root: str | Path | None = None,
    name: str | None = None,
    test: bool = False,
) -> Submission:
    """As `submission.check`, of the config as it was written and the code as it was then. See `api.submit_fork`.

    Raises:
        UsageError: there is no such experiment, or as `submission.check` says.
    """
    with open_reader(home) as reader:
        row = reader.experiment(experiment_id)
    files = ExperimentFiles(home, experiment_id)
    source, given = _config(row, files)
    checked = submission.check(
        source,
        files.context,
        overrides=[*given, *overrides],
        launcher=launcher,
        slots=slots or row.options.get("slots"),
        data_root=data_root or row.options.get("data_root"),
        name=name,
        test=test,
        mode=mode_of(row.options),
        home=home,
        paths_from=row.options.get(submission.PATHS_FROM),
    )
    kept = {key: value for key, value in row.options.items() if key == "started_in"}
    return replace(checked, options={**checked.options, **kept, OPTION: experiment_id})


def _config(row: ExperimentRow, files: ExperimentFiles) -> tuple[Path | Mapping[str, Any], list[str]]:
    """The config of an experiment and the overrides that it was created with."""
    if "overrides" not in row.options:  # of an earlier version, which kept them in the outcome only
        return row.config, []
    # Without a name of its own it would take that of the file, which is another one now.
    return files.config, [*row.options["overrides"], f"name={json.dumps(row.name)}"]
