"""The table of all keys. Loading, the JSON Schema and the key list in docs/config.md are made from it."""

from __future__ import annotations

import re
from typing import Final

from mnist_trials.config.hyperparameters import Hyperparameters
from mnist_trials.config.kinds import Choice, Flag, FreeMap, ListOf, Text, Whole
from mnist_trials.config.nodes import Node
from mnist_trials.config.report import Report
from mnist_trials.config.searchers import SEARCHER
from mnist_trials.config.sections import REQUIRED, ByName, Key, Named, Section, Values
from mnist_trials.config.shapes import EntrypointShape, FlagMap, IntOr, MeshShape, Periods
from mnist_trials.config.short_forms import Limits, PositiveOr

MAX_NAME: Final = 128
"""How many characters a name may have."""

_LABEL: Final = Text(longest=MAX_NAME)
_PATH: Final = Text(longest=4096)


def _plugin(what: str) -> Named:
    name = Key("name", Text(longest=128, meant=f"the name of a {what}"), f"Which {what} is used.", REQUIRED)
    return Named(Section((name,), open=True))


_BACKEND: Final = _plugin("backend")
_LAUNCHER: Final = _plugin("launcher")
_LOGGER: Final = _plugin("logger")

_RESOURCES: Final = Section(
    (
        Key("slots_per_trial", IntOr("auto"), "How many slots each trial takes; `auto`: all there are.", 1),
        Key("max_slots", Whole(1), "How many slots the experiment takes, at most."),
        Key("is_single_node", Flag(), "Whether all slots of a trial must be on one machine."),
    ),
    foreign=("resource_pool", "priority", "weight", "shm_size", "devices"),
)

RETENTION: Final = (
    Key(
        "save_experiment_best",
        Whole(0),
        "How many of the best checkpoints of the whole experiment are kept.",
        0,
    ),
    Key(
        "save_trial_best",
        Whole(0),
        "How many of the best checkpoints of each trial are kept.",
        1,
    ),
    Key(
        "save_trial_latest",
        Whole(0),
        "How many of the latest checkpoints of each trial are kept.",
        1,
    ),
    Key(
        "max_checkpoint_bytes",
        Whole(1),
        "How many bytes the experiment's checkpoints take, at most; beyond it more are given up, the worst first.",
    ),
    Key(
        "save_optimizer",
        Flag(),
        "false: the checkpoint of the end of training holds no optimizer state; a trial can start from it, not go on.",
        True,
    ),
)
"""The keys of `checkpoint_storage` that say what is kept, whatever the storage."""


def _storage(*keys: Key, open: bool = False) -> Section:  # noqa: A002
    kind = Key("type", Text(longest=128, meant="the type of a storage"), "Which storage holds checkpoints.", REQUIRED)
    return Section((kind, *keys, *RETENTION), open=open)


def _text(name: str, meaning: str, default: object = None) -> Key:
    return Key(name, _PATH, meaning, default)


_STORAGE: Final = ByName(
    selector="type",
    tables={
        "shared_fs": _storage(
            _text("host_path", "The shared folder, the same on all machines.", REQUIRED),
            _text("storage_path", "A folder within `host_path`."),
        ),
        "directory": _storage(_text("container_path", "The folder.", REQUIRED)),
        "s3": _storage(
            _text("bucket", "The bucket.", REQUIRED),
            _text("prefix", "What the names of all objects start with."),
            _text("endpoint_url", "Where the service is, if not at Amazon."),
            _text("access_key", "The access key; else the usual places of S3 clients are looked at."),
            _text("secret_key", "The secret key that goes with `access_key`."),
        ),
        "gcs": _storage(
            _text("bucket", "The bucket.", REQUIRED), _text("prefix", "What the names of all objects start with.")
        ),
        "azure": _storage(
            _text("container", "The container.", REQUIRED),
            _text("connection_string", "How to connect; or give `account_url`."),
            _text("account_url", "Where the account is; or give `connection_string`."),
            _text("credential", "The credential that goes with `account_url`."),
        ),
        "fsspec": _storage(
            _text("url", "Any URL that fsspec can write to.", REQUIRED),
            Key("options", FreeMap(), "What the file system is made with.", {}),
        ),
    },
    others=_storage(open=True),
    unnamed=Section((Key("type", _PATH, "Left out: a directory under the home."), *RETENTION)),
)

_REPRODUCIBILITY: Final = Section(
    (
        Key("experiment_seed", Whole(0, 2**31 - 1), "Every random choice follows from this number.", 0),
        Key("deterministic", Flag(), "Whether only deterministic algorithms are used, where there are any.", False),
    )
)

_PROFILING: Final = Section(
    (Key("enabled", Flag(), "Whether speed and the time spent waiting for data are reported.", False),),
    foreign=("begin_on_batch", "end_after_batch", "sync_timings"),
)


def _pattern_compiles(values: Values, node: Node, path: str, report: Report) -> None:
    pattern = values.get("pattern")
    try:
        re.compile(pattern or "")
    except re.error as error:
        report.mistake(node.place, f"'{path}.pattern' is no regular expression: {error}.")


_LOG_POLICY: Final = Section(
    (
        Key("name", Text(longest=128), "What the policy is called in messages."),
        Key("pattern", _PATH, "A regular expression, looked for in each line of a trial's log.", REQUIRED),
        Key(
            "action",
            Choice(("cancel_retries", "exclude_node")),
            "What a match leads to: the trial is not restarted, or not on that machine.",
            "cancel_retries",
        ),
    ),
    checks=(_pattern_compiles,),
)

_WATCHDOG: Final = Section(
    (
        Key("start_seconds", Whole(1), "By then all ranks of a trial must have met.", 300),
        Key(
            "progress_seconds", Whole(1), "A rank that does nothing for so long ends the run, which is restarted.", 600
        ),
    )
)
_RESUME: Final = Section(
    (
        Key(
            "from",
            _PATH,
            "`last` or `best` (of the newest experiment with this `name`), or the path, URL or id of a checkpoint.",
            REQUIRED,
        ),
    )
)
_WATCH: Final = Section(
    (
        Key("what", Choice(("gradients", "parameters", "all")), "Of what histograms are taken.", REQUIRED),
        Key("every", Whole(1), "After how many batches each.", 100),
    )
)

EXPERIMENT: Final = Section(
    (
        Key("name", Text(longest=MAX_NAME), "What the experiment is called. Left out: the name of the config file."),
        Key("description", Text(longest=10_000, lines=True, empty=True), "A few words for people.", ""),
        Key("labels", ListOf(_LABEL), "Words to find the experiment by.", []),
        Key("project", Text(longest=128, empty=True), "The project it belongs to.", ""),
        Key(
            "entrypoint",
            EntrypointShape(),
            "What to run: `module:TrialClass`, or a command as a string or a list of words.",
            REQUIRED,
        ),
        Key("hyperparameters", Hyperparameters(), "What the trial is given: constants and ranges.", {}),
        Key("searcher", SEARCHER, "Which trials are made, how long they train, how they are judged.", REQUIRED),
        Key("resources", _RESOURCES, "What a trial and the experiment take of the machine.", _RESOURCES.defaults()),
        Key("data", FreeMap(), "For the trial; it reads this as `context.data`.", {}),
        Key(
            "checkpoint_storage",
            _STORAGE,
            "Where checkpoints lie, and which are kept. Left out: a directory under the home.",
            {"type": None, **{key.name: key.default for key in RETENTION}},
        ),
        Key("checkpoint_policy", Choice(("best", "all", "none")), "After which validations one is saved.", "best"),
        Key("min_validation_period", Periods(), "When the trial is validated, besides at its end."),
        Key("min_checkpoint_period", Periods(), "When a checkpoint is saved, besides at the end."),
        Key("perform_initial_validation", Flag(), "Whether to validate before the first batch.", False),
        Key("save_initial_checkpoint", Flag(), "Whether to save a checkpoint before the first batch.", False),
        Key("max_restarts", Whole(0), "How often a trial that failed is started again.", 5),
        Key("reproducibility", _REPRODUCIBILITY, "Seeds and determinism.", _REPRODUCIBILITY.defaults()),
        Key(
            "records_per_epoch",
            Whole(0),
            "An epoch ends after this many records; left out or 0: after each pass over the data.",
        ),
        Key(
            "limit_batches",
            Limits(),
            "Only the first so many batches of each pass over the training data, and of each validation, for a quick "
            "try; a number means both.",
        ),
        Key("scheduling_unit", Whole(1), "Batches from one report of training metrics to the next.", 100),
        Key(
            "profiling",
            FlagMap(_PROFILING),
            "Whether speed and the time spent waiting for data are reported.",
            _PROFILING.defaults(),
        ),
        Key("log_policies", ListOf(_LOG_POLICY), "What to do when a line of a trial's log matches.", []),
        Key("backend", _BACKEND, "The kind of device; `auto`: cuda where there is one, else cpu.", {"name": "auto"}),
        Key("precision", Choice(("fp32", "bf16-mixed", "fp16-mixed", "bf16-true")), "In what to compute.", "fp32"),
        Key(
            "loss_scale",
            PositiveOr(("none", "dynamic")),
            "What a loss is multiplied by before the backward pass, so that small gradients do not vanish; `dynamic` "
            "finds it out. Left out: `dynamic` for fp16-mixed, else `none`.",
        ),
        Key("mesh", MeshShape(), "How the slots of a trial are arranged. Left out: all split the data."),
        Key(
            "shard",
            Flag(),
            "Whether slots that split the data split parameters, gradients and optimizer states too (FSDP).",
            False,
        ),
        Key("watchdog", _WATCHDOG, "When a trial of several slots counts as stuck.", _WATCHDOG.defaults()),
        Key("launcher", _LAUNCHER, "How the processes of a trial are started.", {"name": "local"}),
        Key("compile", Choice((True, False, "program")), "Whether the step is compiled, or captured whole.", False),
        Key("loggers", ListOf(_LOGGER), "Who follows the experiment besides the store.", []),
        Key("on_nan", Choice(("stop", "skip", "warn")), "What a loss that is not finite leads to.", "stop"),
        Key("resume", _RESUME, "Go on from a checkpoint that is there already, with all of its state."),
        Key("watch", _WATCH, "Histograms of weights and gradients."),
    ),
    foreign=(
        "environment",
        "bind_mounts",
        "slurm",
        "pbs",
        "workspace",
        "optimizations",
        "integrations",
        "retention_policy",
        "preemption_timeout",
        "tensorboard_storage",
        "debug",
        "security",
    ),
)
"""The whole config."""
