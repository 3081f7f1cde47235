"""What an experiment is to do with its trials: train and validate them, train them, or evaluate a checkpoint."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import UsageError
from mnist_trials.records import MODES, Mode

OPTION: Final = "mode"
"""Where among an experiment's options its mode is kept, if it is not the default."""

_SINGLE: Final = "single"


def option_of(mode: str) -> dict[str, Any]:
    """`mode` as it is kept among the options.

    Raises:
        UsageError: there is no such mode.
    """
    if mode not in MODES:
        near = difflib.get_close_matches(mode, MODES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"there is no mode '{mode}'.{hint} Known: {', '.join(MODES)}.")
    return {} if mode == MODES[0] else {OPTION: mode}


def mode_of(options: Mapping[str, Any]) -> Mode:
    """The mode of an experiment with these options."""
    mode: Mode = options.get(OPTION, MODES[0])
    return mode


def named(checkpoint: str) -> str:
    """A checkpoint as a person named it here, for whoever reads it elsewhere: a path is made absolute."""
    return str(Path(checkpoint).absolute()) if Path(checkpoint).exists() else checkpoint


def require_checkpoint(mode: str, config: ExperimentConfig, there_is_one: bool) -> None:
    """See that the mode `eval` has one checkpoint to evaluate.

    Raises:
        UsageError: it has none, or a search.
    """
    if mode != "eval":
        return
    if config.searcher.name != _SINGLE:
        raise UsageError(
            f"the mode eval evaluates one checkpoint, and the searcher '{config.searcher.name}' makes several trials: "
            f"give the config 'searcher.name: {_SINGLE}'."
        )
    if not there_is_one:
        raise UsageError(
            "the mode eval evaluates a checkpoint, and none is named: give --checkpoint with its id, its folder or its "
            "URL, or name it in the config as 'resume.from' or 'searcher.source_checkpoint_uuid'."
        )
