"""`create`, `fork` and `activate`: run an experiment here and follow it, or start it in the background."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from mnist_trials.cli import lookup
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.interrupts import answered
from mnist_trials.cli.report import Standing, conclude, hint
from mnist_trials.errors import UsageError
from mnist_trials.records import MODES

if TYPE_CHECKING:
    from mnist_trials.cli.display import Display
    from mnist_trials.store import Reader

_GROUP = "Run"


def _create(call: Invocation) -> int:
    from mnist_trials.experiment import api

    given = call.arguments
    if given.validate_only or given.compile_only:
        return _ahead(call)
    options = {**_options(call), "mode": given.mode, "checkpoint": given.checkpoint}
    return _begin(call, api.submit(given.config_file, given.context, home=call.home, **options))


def _ahead(call: Invocation) -> int:
    """What `validate` or `compile` does, of what would be run."""
    from mnist_trials.cli import compile as compiling
    from mnist_trials.cli import validate

    options = {**_options(call), "mode": call.arguments.mode, "checkpoint": call.arguments.checkpoint}
    if call.arguments.validate_only:
        return validate.validate(call, **options)
    return compiling.compile_programs(call, compiling.Wanted(), **options)


def _fork(call: Invocation) -> int:
    from mnist_trials.experiment import api

    return _begin(call, api.submit_fork(call.arguments.experiment, home=call.home, **_options(call)))


def _options(call: Invocation) -> dict[str, Any]:
    """What `create` and `fork` have in common, as Python takes it."""
    given = call.arguments
    return {
        "overrides": given.config,
        "launcher": given.launcher,
        "slots": given.slots,
        "data_root": given.data_root,
        "name": given.name,
        "test": given.test,
    }


def _begin(call: Invocation, experiment_id: int) -> int:
    with lookup.reading(call) as reader:
        for notice in reader.notices(experiment_id):
            call.screen.warn(f"warning: {notice.message}")
    return _detach(call, experiment_id) if call.arguments.detach else _follow(call, experiment_id)


def _activate(call: Invocation) -> int:
    from mnist_trials.experiment import api

    experiment_id = call.arguments.experiment
    plan = api.plan(experiment_id, home=call.home)
    if plan.state.ended:
        raise UsageError(f"experiment {experiment_id} has ended ({plan.state}); there is nothing to go on with")
    if call.arguments.dry_run and call.screen.json:
        call.screen.document(plan.to_json())
        return 0
    call.screen.say(str(plan))
    if call.arguments.dry_run:
        return 0
    if plan.alive:
        try:
            api.request(experiment_id, "activate", home=call.home)
        except api.NoController:
            pass  # it ended just now: this process takes its place
        else:
            call.screen.say(f"It is run by another process; `{hint(call, f'wait {experiment_id}')}` waits for its end.")
            _document(call, experiment_id)
            return 0
    return _detach(call, experiment_id) if call.arguments.detach else _follow(call, experiment_id)


def _follow(call: Invocation, experiment_id: int) -> int:
    from mnist_trials.experiment import api

    with call.screen.reserved(), lookup.reading(call) as reader:
        display = _display(call, reader, experiment_id)
        try:
            with answered(display.write):
                api.run(experiment_id, home=call.home, followers=[display])
        except KeyboardInterrupt:  # before or after the controller was listening
            call.screen.warn("interrupted")
        finally:
            display.close()
    with lookup.reading(call) as reader:
        standing = Standing.read(reader, experiment_id)
    return conclude(call, standing)


def _detach(call: Invocation, experiment_id: int) -> int:
    """Only the id on stdout, for scripts."""
    from mnist_trials.experiment import api

    controller = api.detach(experiment_id, home=call.home)
    call.screen.warn(f"Experiment {experiment_id} runs in the background (controller: {controller}).")
    call.screen.warn(f"`{hint(call, f'wait {experiment_id}')}` waits for its end.")
    if not call.screen.json:
        call.screen.say(str(experiment_id))
    _document(call, experiment_id)
    return 0


def _document(call: Invocation, experiment_id: int) -> None:
    if call.screen.json:
        with lookup.reading(call) as reader:
            call.screen.document(reader.summary(experiment_id))


def _display(call: Invocation, reader: Reader, experiment_id: int) -> Display:
    """Live on a terminal; lines elsewhere, and where trials run in this process and may stop in a debugger."""
    from mnist_trials.cli.display import PlainDisplay
    from mnist_trials.cli.figures import Figures
    from mnist_trials.cli.live import LiveDisplay
    from mnist_trials.cli.story import Story
    from mnist_trials.cli.trial_table import is_search

    experiment = reader.experiment(experiment_id)
    where = call.home / "experiments" / str(experiment_id)
    call.screen.say(f"experiment {experiment_id} ({experiment.name}); its logs are in {where}")
    inline = experiment.options.get("launcher") == "inline" or experiment.config["launcher"] == {"name": "inline"}
    search = is_search(experiment)
    story = Story(reader, experiment_id) if search else None
    if call.screen.stream.isatty() and os.environ.get("TERM") != "dumb" and not inline:
        return LiveDisplay(call.screen.stream, story, Figures(reader, experiment_id) if search else None)
    return PlainDisplay(call.screen.say, story=story)


def positive(text: str) -> int:
    """A whole number of at least 1, as an option takes it."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number of at least 1, not {text!r}")
    return value


def _positive_or_auto(text: str) -> int | str:
    return text if text == "auto" else positive(text)


def _create_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    _add_options(parser, instead="the config's")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="train: validate only where the searcher judges a trial; eval: only validate a checkpoint",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="CHECKPOINT",
        help="the one to go on from, or to evaluate, in place of the config's resume.from: its id, folder or URL",
    )
    ahead = parser.add_mutually_exclusive_group()
    ahead.add_argument("--validate-only", action="store_true", help="only do what `validate` does")
    ahead.add_argument("--compile-only", action="store_true", help="only do what `compile` does")


def _fork_arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_experiment(parser)
    add_override(parser)
    _add_options(parser, instead="the old one's")


def _add_options(parser: argparse.ArgumentParser, *, instead: str) -> None:
    parser.add_argument("--launcher", metavar="NAME", help=f"how workers are started, in place of {instead} choice")
    parser.add_argument(
        "--slots",
        metavar="N",
        type=_positive_or_auto,
        help="slots that this machine offers to the experiment; auto: all, and each trial takes as many as there are",
    )
    parser.add_argument("--data-root", metavar="DIR", help="where the data set lies")
    parser.add_argument("--name", help=f"the experiment's name, in place of {instead}")
    parser.add_argument("--detach", action="store_true", help="run in the background; print the id and return at once")
    parser.add_argument(
        "--test", action="store_true", help="one batch, one validation, one checkpoint, restore it, done"
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """The arguments CONFIG and CONTEXT and the option --config."""
    parser.add_argument("config_file", metavar="CONFIG", help="the experiment config, a YAML file")
    parser.add_argument(
        "context", metavar="CONTEXT", nargs="?", help="the folder of the entrypoint's code (default: the config's)"
    )
    add_override(parser)


def add_override(parser: argparse.ArgumentParser) -> None:
    """The option --config."""
    parser.add_argument(
        "--config",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set one key, such as hyperparameters.lr=0.1; VALUE is read as YAML; may be given again",
    )


def _activate_arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_experiment(parser)
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.add_argument("--detach", action="store_true", help="run in the background; print the id and return at once")


COMMANDS = (
    Command(
        name="create",
        group=_GROUP,
        summary="run an experiment and follow it until it ends",
        description="Ctrl-C saves the state of every trial and pauses; `activate` goes on.",
        run=_create,
        configure=_create_arguments,
    ),
    Command(
        name="fork",
        group=_GROUP,
        summary="run an experiment anew, with the config and the code it had, and changes",
        description=(
            "The new experiment has the config as it was written, with what --config, --launcher, --slots and "
            "--data-root changed then; what is given now comes on top. It is followed until it ends, as by `create`."
        ),
        run=_fork,
        configure=_fork_arguments,
    ),
    Command(
        name="activate",
        group=_GROUP,
        summary="go on with an experiment after a pause, a crash or a reboot",
        description="What will be done is printed first.",
        run=_activate,
        configure=_activate_arguments,
    ),
)
