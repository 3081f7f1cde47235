"""Everything a plugin author needs: the hook marker, one abstract class per kind, and the records they use."""

from mnist_trials.errors import PluginError
from mnist_trials.plugin.backend import Backend, Execution, ExecutionSettings, Rules
from mnist_trials.plugin.checkpoint_storage import MANIFEST, CheckpointStorage, require_checkpoint_id
from mnist_trials.plugin.launcher import (
    Channel,
    Deliver,
    Launcher,
    WorkerHandle,
    WorkerSpec,
    resolve_target,
)
from mnist_trials.plugin.logger import Logger, LoggerContext
from mnist_trials.plugin.manager import PluginInfo, PluginManager, get_plugins
from mnist_trials.plugin.options import refuse_unknown, text_option
from mnist_trials.plugin.ranks import Alone, Layout, Ranks
from mnist_trials.plugin.searcher import (
    Action,
    Bracket,
    Create,
    Judgement,
    Pause,
    Reason,
    Resume,
    Searcher,
    SearcherContext,
    Shutdown,
    Stop,
)
from mnist_trials.plugin.spec import Hooks, Options, PluginRecord, hookimpl

__all__ = [
    "MANIFEST",
    "Action",
    "Alone",
    "Backend",
    "Bracket",
    "Channel",
    "CheckpointStorage",
    "Create",
    "Deliver",
    "Execution",
    "ExecutionSettings",
    "Hooks",
    "Judgement",
    "Launcher",
    "Layout",
    "Logger",
    "LoggerContext",
    "Options",
    "Pause",
    "PluginError",
    "PluginInfo",
    "PluginManager",
    "PluginRecord",
    "Ranks",
    "Reason",
    "Resume",
    "Rules",
    "Searcher",
    "SearcherContext",
    "Shutdown",
    "Stop",
    "WorkerHandle",
    "WorkerSpec",
    "get_plugins",
    "hookimpl",
    "refuse_unknown",
    "require_checkpoint_id",
    "resolve_target",
    "text_option",
]
