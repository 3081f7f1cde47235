"""`compile`: the programs of a trial's steps, made before anything runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.failures import tell_trial
from mnist_trials.cli.running import add_config
from mnist_trials.errors import UsageError
from mnist_trials.records import ErrorInfo

if TYPE_CHECKING:
    from mnist_trials.experiment.submission import Submission
    from mnist_trials.records import Slot

_INVALID = 2
_STABLEHLO: Final = "stablehlo"
_SHOWN: Final = 6  # kinds of operations of a program; the files and --json have all


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be made."""

    out: Path | None = None  # where it is written
    export: str | None = None
    platforms: tuple[str, ...] = ("cpu",)


def compile_programs(call: Invocation, wanted: Wanted, **options: Any) -> int:
    """Make the programs of a config, with the options of `create` that change it; returns the exit status."""
    from mnist_trials.experiment.submission import check

    given = call.arguments
    options.setdefault("overrides", given.config)
    submission = check(given.config_file, given.context, home=call.home, device=False, **options)
    for warning in submission.warnings:
        call.screen.warn(f"warning: {warning}")
    if submission.loaded.config.entrypoint.command:
        raise UsageError(
            "there is nothing to compile: the entrypoint is a command, and programs are made of the steps of a Trial. "
            "Name the class as 'entrypoint: module:Class'."
        )
    found, error = _first_made(call, submission, wanted)
    if error is not None:
        return tell_trial(error, "the config is valid, but its trial cannot be compiled", call.screen, _INVALID)
    return _tell(call, submission, wanted, found)


def _compile(call: Invocation) -> int:
    given = call.arguments
    return compile_programs(
        call, Wanted(out=_folder(given.out, given.export), export=given.export, platforms=given.platforms)
    )


def _folder(name: str | None, export: str | None) -> Path | None:
    if name is None:
        if export is not None:
            raise UsageError(f"--export {export} writes files: say where with --out DIR")
        return None
    folder = Path(name).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{name} exists and is no empty folder; --out names one, or a new one")
    return folder


def _first_made(call: Invocation, submission: Submission, wanted: Wanted) -> tuple[dict[str, Any], ErrorInfo | None]:
    """What is made of the first hyperparameters that the trial does not refuse; or what is wrong."""
    from mnist_trials.cli.rehearsal import refused, told_refused, tries

    found: dict[str, Any] = {}
    error: ErrorInfo | None = None
    for number in tries(submission):
        if error is not None:
            call.screen.warn(f"warning: {told_refused(number - 1, error)}")
        found, died = _made(call, submission, wanted, number)
        error = died or (ErrorInfo(**found["error"]) if "error" in found else None)
        if not refused(error):
            break
    return found, error


def _made(
    call: Invocation, submission: Submission, wanted: Wanted, number: int
) -> tuple[dict[str, Any], ErrorInfo | None]:
    """What the process found that made the programs of trial `number`; or how it died."""
    from mnist_trials.cli.rehearsal import rehearsal
    from mnist_trials.experiment.home import VARIABLE

    plan = _plan(submission)
    if plan.reason is not None and wanted.export is None:
        return {"kind": "programs", "programs": [], "refused": [{"name": "programs", "reason": plan.reason}]}, None
    if wanted.out is not None:
        wanted.out.mkdir(parents=True, exist_ok=True)
    compiles = plan.slot is not None and wanted.export is None
    task = {
        "out": None if wanted.out is None else str(wanted.out),
        "platforms": list(wanted.platforms),
        "compiles": compiles,
        "config": submission.loaded.config.name,
    }
    with rehearsal(
        submission,
        "mnist_trials.cli.program_build:run",
        task,
        environment={VARIABLE: str(call.home)},
        slot=plan.slot if compiles else None,
        number=number,
        compile="program" if compiles else False,
    ) as trying:
        died = trying.run(lambda event: None)
        return trying.found, died


@final
@dataclass(frozen=True, slots=True)
class _Plan:
    """How programs are made for a config."""

    slot: Slot | None = None  # as its trials will have one, where programs can be compiled ahead; their threads count
    reason: str | None = None  # why they cannot, where they would be of use


def _plan(submission: Submission) -> _Plan:
    from mnist_trials.experiment.machinery import Workshop
    from mnist_trials.plugin import get_plugins

    config = submission.loaded.config
    workshop = Workshop(get_plugins(), config, submission.options)
    if submission.absent is not None:
        return _Plan(reason=f"{submission.absent}, where they would be compiled; --export stablehlo needs no device")
    launcher = workshop.launcher()
    name, backend = workshop.backend(launcher)
    if backend.one_process:
        return _Plan()
    if backend.stand_in() is not None:
        return _Plan(
            reason=f"to compile for '{name}' takes its device, which this command never does: the first trial that "
            "needs them compiles, and all after it reuse that; --export stablehlo needs no device"
        )
    offer = workshop.offer(name, backend, launcher)
    if offer.per_trial != 1:
        return _Plan(
            reason=f"a trial takes {offer.per_trial} slots, and what each of its processes runs depends on the others: "
            "its programs are compiled when it first runs"
        )
    return _Plan(slot=offer.slots[0])


def _tell(call: Invocation, submission: Submission, wanted: Wanted, found: Mapping[str, Any]) -> int:
    document = {**found, "out": None if wanted.out is None else str(wanted.out), "store": None}
    built = found["kind"] == "programs" and found["programs"]
    if built:
        document["store"] = str(call.home / "programs")
    for line in _lines(submission, document):
        call.screen.say(line)
    for refused in found["refused"]:
        call.screen.warn(f"not made: {refused['name']}: {refused['reason']}")
    if built and submission.loaded.config.compile != "program":
        call.screen.warn("The config does not say 'compile: program', so its trials do not run these.")
    if call.screen.json:
        call.screen.document(document)
    return 1 if found["refused"] else 0


def _lines(submission: Submission, document: Mapping[str, Any]) -> Iterator[str]:
    programs = document["programs"]
    if not programs:
        return
    name = submission.loaded.config.name
    if document["store"] is not None:
        yield f"The programs of {name}, kept in {document['store']}:"
    else:
        yield f"The steps of {name} as StableHLO for {', '.join(programs[0]['platforms']) or 'any platform'}:"
    width = max(len(program["name"]) for program in programs)
    yield from (f"  {program['name']:<{width}}  {_line(program)}" for program in programs)
    if document["out"] is not None:
        yield f"Written to {document['out']}; its index.json says what is what."


def _line(program: Mapping[str, Any]) -> str:
    operations = program["operations"]
    often = sorted(operations.items(), key=lambda entry: (-entry[1], entry[0]))[:_SHOWN]
    listed = ", ".join(f"{name} {count}" for name, count in often)
    more = f", and {len(operations) - len(often)} kinds more" if len(operations) > len(often) else ""
    counted = f"{sum(operations.values())} operations: {listed}{more}"
    return f"{_origin(program)}{counted}"


def _origin(program: Mapping[str, Any]) -> str:
    match program.get("origin"):
        case "built":
            return f"built in {program['seconds']:.1f} s, "
        case "reused":
            return "was there already, "
        case "not compiled":
            return f"not compiled ({program['reason']}), "
    return ""


def _platforms(text: str) -> tuple[str, ...]:
    platforms = tuple(part.strip() for part in text.split(","))
    if not all(platforms):
        raise argparse.ArgumentTypeError(f"takes names of platforms with commas between, as cpu,cuda,tpu; not {text!r}")
    return platforms


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--out", metavar="DIR", help="a new or empty folder to write the programs to")
    parser.add_argument(
        "--export",
        choices=(_STABLEHLO,),
        help="write the parts of a step (init, forward, loss, gradients, optimizer, all, evaluation) as StableHLO",
    )
    parser.add_argument(
        "--platforms",
        metavar="NAMES",
        type=_platforms,
        default=("cpu",),
        help="what jax exports for, such as cpu,cuda,tpu (default: cpu); torch exports the same for all",
    )


COMMANDS = (
    Command(
        name="compile",
        group="Start",
        summary="make the programs of a trial's steps before it runs, and show their operations",
        description=(
            "For torch trials on CPUs the train step and the evaluation are captured and compiled, for whole batches "
            "and for the last, short ones, and kept in the home: a `create` with 'compile: program' in its config "
            "reuses them. For the backends jax and xla, whose compilers work when a trial starts, and with --export, "
            "each part of a step is lowered to StableHLO. It is done in a process of its own, on random images, "
            "without a device. Where something asked for cannot be made, the rest is made, and the exit status is 1."
        ),
        run=_compile,
        configure=_arguments,
    ),
)
