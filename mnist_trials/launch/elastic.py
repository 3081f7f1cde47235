"""Starts ranks by torch's elastic launcher, as torchrun does."""

from __future__ import annotations

import logging
import os
import sys
import threading
import uuid
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, final

from typing_extensions import override

from mnist_trials.config.launch_layer import LAUNCH_LAYER
from mnist_trials.errors import UsageError
from mnist_trials.launch import rank
from mnist_trials.launch.output import Output
from mnist_trials.launch.signals import Signals

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig

LOOPBACK: Final = "127.0.0.1"
_BY_SIGNAL: Final = 128  # plus its number: the exit status of a command that a signal ended, as shells tell it
_NO_FILES: Final = "0"  # torchrun's word for output that goes to no file


def launch(options: Sequence[str], slots: int | None, command: Sequence[str]) -> int:
    """Run `command` on `slots` slots of this machine, and wait for its end. `options` are torchrun's.

    Returns:
        The exit status of the first rank that failed, 128 + n where signal n ended it; 0 where none failed.

    Raises:
        UsageError: torchrun does not take these options together.
        SystemExit: its parser refuses them, and has said so.
    """
    with Signals() as signals, TemporaryDirectory(prefix="mnist-trials-launch-") as folder:
        _silence_reports()
        arguments = _arguments(options, slots, command, folder)
        config, words = _configuration(arguments)
        to_files = (arguments.redirects, arguments.tee) != (_NO_FILES, _NO_FILES)
        output = Output(config.nproc_per_node, signals)
        launcher = _Launcher(config, rank.arguments(os.getpid(), output.addresses, to_files, words))
        launcher.start()
        launcher.join()
        output.close()
    if launcher.said:
        print(f"{LAUNCH_LAYER}: {launcher.said}", file=sys.stderr)
    return launcher.status


@final
class _Launcher(threading.Thread):
    """Torch's launcher at work, in a thread of its own: in the main thread it would keep the signals for itself.

    Attributes:
        status: the exit status for this process, when the thread has ended.
        said: why it is not 0, in a sentence.
    """

    def __init__(self, config: LaunchConfig, arguments: Sequence[str]) -> None:
        super().__init__(name="elastic-launcher", daemon=True)
        self.status = 1
        self.said = ""
        self._config = config
        self._arguments = arguments

    @override
    def run(self) -> None:
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import elastic_launch

        try:
            elastic_launch(self._config, sys.executable)(*self._arguments)
        except ChildFailedError as error:
            self.status, self.said = _explain(error)
        except Exception as error:  # rendezvous errors have no class in common
            self.said = f"the ranks could not be started: {error}"
        else:
            self.status = 0


def _explain(error: ChildFailedError) -> tuple[int, str]:
    """The exit status and the sentence for ranks of which some have failed."""
    first, failure = error.get_first_failure()
    code: int = failure.exitcode
    how = f"ended with status {code}" if code > 0 else f"was ended by signal {-code}"
    return (code if code > 0 else _BY_SIGNAL - code), f"rank {first} {how}; so all are ended."


def _arguments(options: Sequence[str], slots: int | None, command: Sequence[str], folder: str) -> Namespace:
    from torch.distributed.run import get_args_parser

    parser = get_args_parser()
    parser.prog = f"python3 -m {LAUNCH_LAYER}"
    given = [*options] if slots is None else [*options, "--nproc-per-node", str(slots)]
    arguments: Namespace = parser.parse_args([*given, "--no-python", *command])
    if arguments.log_dir is None:
        arguments.log_dir = folder
    if arguments.standalone or _alone(arguments):
        arguments.rdzv_backend, arguments.rdzv_endpoint = "c10d", f"{LOOPBACK}:0"
        arguments.rdzv_id = str(uuid.uuid4())
        arguments.local_addr = arguments.local_addr or LOOPBACK
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, "lo")
    return arguments


def _alone(arguments: Namespace) -> bool:
    """Whether nothing is said of other machines or of where to meet."""
    said = (
        arguments.nnodes not in ("1", "1:1"),
        arguments.rdzv_backend != "static",
        arguments.rdzv_endpoint != "",
        arguments.node_rank != 0,
        arguments.master_addr != LOOPBACK,
        arguments.master_port != 29500,
    )
    return not any(said)


def _configuration(arguments: Namespace) -> tuple[LaunchConfig, list[str]]:
    """What the launcher is to do, and the words of the command; sets variables for it in this process's environment."""
    from torch.distributed.run import config_from_args

    if arguments.nproc_per_node.isdecimal():
        share = max(1, len(os.sched_getaffinity(0)) // int(arguments.nproc_per_node))
        os.environ.setdefault("OMP_NUM_THREADS", str(share))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        config, program, words = config_from_args(arguments)
    except ValueError as error:
        raise UsageError(f"torchrun refuses its options: {error}") from None
    if not isinstance(program, str):
        raise UsageError("torchrun's option `--run-path` has no place here: name the whole command behind `--`.")
    config.log_line_prefix_template = "[rank=${rank}] "
    return config, [program, *words]


def _silence_reports() -> None:
    """Have torch's launcher keep its own reports to itself, unless they are asked for."""
    import torch.distributed.launcher.api  # noqa: F401 - makes the loggers

    if "LOGLEVEL" not in os.environ and "TORCH_LOGS" not in os.environ:
        elastic = "torch.distributed.elastic"
        made = [name for name in logging.root.manager.loggerDict if name.startswith(f"{elastic}.")]
        for name in (elastic, *made):
            logging.getLogger(name).setLevel(logging.CRITICAL)
