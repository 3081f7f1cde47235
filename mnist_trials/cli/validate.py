"""`validate`: everything that can be checked of a config before it runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.failures import tell_trial
from mnist_trials.cli.report import hint
from mnist_trials.cli.running import add_config
from mnist_trials.cli.screen import metrics_text
from mnist_trials.cli.tracing import lines_of
from mnist_trials.errors import InvalidHP

if TYPE_CHECKING:
    from mnist_trials.cli.trial_check import Findings
    from mnist_trials.experiment.submission import Submission
    from mnist_trials.records import ErrorInfo

_INVALID = 2


def validate(call: Invocation, **options: Any) -> int:
    """Check a config, with the options of `create` that change it; returns the exit status."""
    from mnist_trials.experiment.submission import check

    given = call.arguments
    options.setdefault("overrides", given.config)
    submission = check(given.config_file, given.context, home=call.home, device=False, **options)
    for warning in submission.warnings:
        call.screen.warn(f"warning: {warning}")
    if submission.loaded.config.entrypoint.command:
        return _tell_command(call, submission)
    from mnist_trials.cli.trial_check import try_out

    findings = try_out(submission)
    for warning in findings.refused:
        call.screen.warn(f"warning: {warning}")
    if findings.error is not None:
        return tell_trial(findings.error, what_fails(findings.refused, findings.error), call.screen, _INVALID)
    return _tell(call, submission, findings)


def what_fails(refused: Sequence[str], error: ErrorInfo) -> str:
    """What to say before `error`, after hyperparameters were `refused`."""
    if error.type != InvalidHP.__name__:
        return "the config is valid, but its trial fails"
    if not refused:
        return "the config is valid, but its trial refuses its hyperparameters"
    return (
        f"the config is valid, but its trial refuses the hyperparameters of all {len(refused) + 1} trials "
        "of the search that were tried; narrow the ranges under 'hyperparameters'. The last"
    )


def _tell_command(call: Invocation, submission: Submission) -> int:
    command = shlex.join(submission.loaded.config.entrypoint.command)
    call.screen.say(f"The config is valid. Its entrypoint is a command and was not run: {command}")
    again = shlex.join([call.arguments.config_file, *([call.arguments.context] if call.arguments.context else [])])
    call.screen.say(f"`{hint(call, f'create {again} --test')}` tries it on one batch.")
    if call.screen.json:
        call.screen.document(_document(submission, None))
    return 0


def _tell(call: Invocation, submission: Submission, findings: Findings) -> int:
    trial = {
        "device": findings.device,
        "dataset": findings.dataset,
        "tensors": findings.tensors,
        "values": findings.values,
        "training": findings.training,
        "validation": findings.validation,
        "checkpoint_bytes": findings.checkpoint_bytes,
        "inspection": findings.traced.get("inspection"),
        "untraced": findings.traced.get("untraced"),
        "operations_missing": {name: findings.traced.get(key) for name, key in _LACKS.items()},
    }
    if call.screen.json:
        call.screen.document(_document(submission, trial, findings.refused))
        return 0
    asked = submission.loaded.config.backend.name
    stands_in = "" if asked in ("auto", findings.backend) else f", in place of {asked}"
    call.screen.say("The config is valid, and its trial works:")
    call.screen.say(f"  device      {findings.device}{stands_in}")
    call.screen.say(f"  data        {findings.dataset or 'its own'}")
    call.screen.say(f"  model       {findings.values:,} values in {findings.tensors} tensors")
    call.screen.say(f"  training    {metrics_text(findings.training)}")
    call.screen.say(f"  validation  {metrics_text(findings.validation)}")
    call.screen.say(f"  checkpoint  {findings.checkpoint_bytes / 1e6:.1f} MB; it was not kept")
    for line in lines_of(findings.traced):
        call.screen.say(line)
    return 0


_LACKS = {"backend": "target", "operations": "lacks", "unknown_because": "untold"}
"""What the document calls what was found out about the operations that a backend lacks."""


def _document(submission: Submission, trial: dict[str, Any] | None, refused: Sequence[str] = ()) -> dict[str, Any]:
    loaded = submission.loaded
    return {
        "valid": True,
        "warnings": [*submission.warnings, *refused],
        "trial": trial,
        "config": loaded.config.to_dict(),
    }


COMMANDS = (
    Command(
        name="validate",
        group="Start",
        summary="check a config: keys, plugins, slots, and its trial on one batch; show what its steps consist of",
        description=(
            "The trial is tried in a process of its own: model, one training batch, one validation batch, one "
            "checkpoint; a train step with an update and an evaluation step are traced, for the layers' shapes, the "
            "operations, and what they cost. Random images take the place of MNIST; a trial with data of its own is "
            "tried on that. No device is taken: for one that others may hold, the CPU stands in. Whether batch and "
            "parameters can be split over several slots is checked by that one process too. Nothing is stored. A "
            "command as entrypoint is not run."
        ),
        run=validate,
        configure=add_config,
    ),
)
