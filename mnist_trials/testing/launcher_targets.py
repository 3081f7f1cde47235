"""What `LauncherSuite` has its workers do; each is a target of a `WorkerSpec` and imports nothing heavy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mnist_trials.events import Event, Notice, StopRequest, TrialExited, TrialHeld
from mnist_trials.plugin import Channel, WorkerSpec, get_plugins
from mnist_trials.records import Outcome

_MODULE = __name__
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
_TOO_LONG = 600.0  # seconds; a worker that nobody ends must not stay for ever


def target(name: str) -> str:
    """As `WorkerSpec.target` names a function of this module."""
    return f"{_MODULE}:{name}"


def tell(spec: WorkerSpec, channel: Channel, message: str) -> None:
    """Send `message` as a notice."""
    channel.emit(Notice(trial_id=spec.trial_id, run=spec.run, rank=spec.rank, message=message))


def finish(spec: WorkerSpec, channel: Channel, outcome: Outcome = Outcome.COMPLETED) -> int:
    """Send the last word."""
    channel.emit(TrialExited(trial_id=spec.trial_id, run=spec.run, rank=spec.rank, outcome=outcome, batches=0))
    return 0


def counts(spec: WorkerSpec, channel: Channel) -> int:
    """Send `hparams["events"]` notices of `hparams["bytes"]` characters each, numbered from 0."""
    for number in range(spec.hparams["events"]):
        tell(spec, channel, str(number).ljust(spec.hparams["bytes"], "."))
    return finish(spec, channel)


def describes_itself(spec: WorkerSpec, channel: Channel) -> int:
    """Send what it was given and where it runs."""
    environment = {name: os.environ.get(name) for name in spec.environment}
    document = {"spec": spec.to_json(), "environment": environment, "directory": os.getcwd(), "pid": os.getpid()}
    tell(spec, channel, json.dumps(document))
    return finish(spec, channel)


def prints(spec: WorkerSpec, channel: Channel) -> int:
    """Write `hparams["text"]` to standard output and standard error."""
    for stream in (sys.stdout, sys.stderr):
        stream.write(spec.hparams["text"])
        stream.flush()
    return finish(spec, channel)


def waits(spec: WorkerSpec, channel: Channel) -> int:
    """Say so, wait for a request, and end with the outcome asked for."""
    tell(spec, channel, "waiting")
    end = time.monotonic() + _TOO_LONG
    while time.monotonic() < end:
        if request := channel.stop_requested():
            tell(spec, channel, request.reason)
            return finish(spec, channel, request.outcome)
        time.sleep(0.005)
    return 1


def is_held(spec: WorkerSpec, channel: Channel) -> int:
    """Be held `hparams["times"]` times; tell each answer, and end when one is to stop."""
    for batches in range(spec.hparams["times"]):
        channel.emit(TrialHeld(trial_id=spec.trial_id, run=spec.run, rank=spec.rank, batches=batches))
        word = channel.wait_for_word()
        if isinstance(word, StopRequest):
            tell(spec, channel, f"stop: {word.reason}")
            return finish(spec, channel, word.outcome)
        tell(spec, channel, f"go on until {word.until}; asked to stop: {channel.stop_requested() is not None}")
    return finish(spec, channel)


def waits_and_is_held(spec: WorkerSpec, channel: Channel) -> int:
    """Wait until there is a request to stop, leave it alone, and be held."""
    tell(spec, channel, "waiting")
    end = time.monotonic() + _TOO_LONG
    while channel.stop_requested() is None and time.monotonic() < end:
        time.sleep(0.005)
    return is_held(spec, channel)


def is_held_with_children(spec: WorkerSpec, channel: Channel) -> int:
    """Start children as `leaves_children` does, write all pids to the file `pids` of the trial, and be held."""
    path = Path(spec.trial_dir, "pids")
    path.write_text(json.dumps([os.getpid(), *_children()]), encoding="utf-8")
    return is_held(spec, channel)


def raises(spec: WorkerSpec, channel: Channel) -> int:
    """Raise an exception after an event."""
    tell(spec, channel, "before")
    raise RuntimeError("raised by the worker")


def exits(spec: WorkerSpec, channel: Channel) -> int:
    """Call `sys.exit(3)` after an event."""
    tell(spec, channel, "before")
    sys.exit(3)


def dies(spec: WorkerSpec, channel: Channel) -> int:
    """Send itself SIGKILL after an event."""
    tell(spec, channel, "before")
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def tells_its_place(spec: WorkerSpec, channel: Channel) -> int:
    """Send where the ranks meet and what torchrun's variables say."""
    document = {"rendezvous": spec.rendezvous, "variables": {name: os.environ.get(name) for name in TORCHRUN}}
    tell(spec, channel, json.dumps(document))
    return finish(spec, channel)


def meets_the_others(spec: WorkerSpec, channel: Channel) -> int:
    """Join the other ranks at the rendezvous, and as torchrun's variables say; send what rank was heard where."""
    import torch.distributed as dist

    for url, rank, size in ((spec.rendezvous, spec.rank, spec.size), ("env://", -1, -1)):
        dist.init_process_group("gloo", init_method=url, rank=rank, world_size=size)
        heard: list[int | None] = [None] * spec.size
        dist.all_gather_object(heard, spec.rank)
        dist.destroy_process_group()
        tell(spec, channel, json.dumps([url.split(":")[0], heard]))
    return finish(spec, channel)


def first_rank_exits(spec: WorkerSpec, channel: Channel) -> int:
    """Rank 0 ends with status 3, the others wait."""
    return exits(spec, channel) if spec.rank == 0 else waits(spec, channel)


def first_rank_dies(spec: WorkerSpec, channel: Channel) -> int:
    """Rank 0 sends itself SIGKILL, the others wait."""
    return dies(spec, channel) if spec.rank == 0 else waits(spec, channel)


def leaves_children(spec: WorkerSpec, channel: Channel) -> int:
    """Start a child in a process group of its own and one in this group, tell their pids, and end."""
    tell(spec, channel, json.dumps(_children()))
    return finish(spec, channel)


def waits_with_children(spec: WorkerSpec, channel: Channel) -> int:
    """Start children as `leaves_children` does, tell their pids, and wait."""
    tell(spec, channel, json.dumps(_children()))
    return waits(spec, channel)


def _children() -> list[int]:
    command = ["sleep", str(_TOO_LONG)]
    return [subprocess.Popen(command, process_group=group).pid for group in (None, 0)]  # noqa: S603 - our own command


def launch(spec: str, plugin: str, options: str) -> None:
    """Launch the worker that the file `spec` describes, in a process that is there to be killed.

    Prints a line when the worker is held, and does not answer. `options` are JSON.
    """

    def hear(event: Event) -> None:
        if isinstance(event, TrialHeld):
            print("held", flush=True)

    worker = WorkerSpec.from_json(json.loads(Path(spec).read_text(encoding="utf-8")))
    handle = get_plugins().find("launcher", plugin).factory(json.loads(options)).create([worker])
    handle.start(hear)
    handle.join(_TOO_LONG)
