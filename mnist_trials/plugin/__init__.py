"""Everything a plugin author needs: the hook marker, one abstract class per kind, and the records they use."""

from mnist_trials.errors import PluginError
from mnist_trials.plugin.backend import Backend, Execution, ExecutionSettings, Rules
from mnist_trials.plugin.checkpoint_storage import (
    MANIFEST,
    CheckpointStorage,
    Stored,
    StoredFile,
    require_checkpoint_id,
)
from mnist_trials.plugin.inspection import RAISED_IN, Inspection, LayerReport, StepReport
from mnist_trials.plugin.interpreter import own_options, python_of
from mnist_trials.plugin.launcher import (
    Channel,
    Deliver,
    Launcher,
    WorkerHandle,
    WorkerSpec,
    resolve_target,
)
from mnist_trials.plugin.learner import Learner, Lesson, Measured, Rows
from mnist_trials.plugin.logger import Logger, LoggerContext
from mnist_trials.plugin.lowering import PARTS, ArrayKind, Lowered, Refused
from mnist_trials.plugin.manager import PluginInfo, PluginManager, get_plugins
from mnist_trials.plugin.options import refuse_unknown, text_option
from mnist_trials.plugin.ranks import Alone, Layout, Line, Ranks
from mnist_trials.plugin.rates import RateSchedule, rate_schedule
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
from mnist_trials.plugin.spread import Piece, Spread

__all__ = [
    "MANIFEST",
    "PARTS",
    "RAISED_IN",
    "Action",
    "Alone",
    "ArrayKind",
    "Backend",
    "Bracket",
    "Channel",
    "CheckpointStorage",
    "Create",
    "Deliver",
    "Execution",
    "ExecutionSettings",
    "Hooks",
    "Inspection",
    "Judgement",
    "Launcher",
    "LayerReport",
    "Layout",
    "Learner",
    "Lesson",
    "Line",
    "Logger",
    "LoggerContext",
    "Lowered",
    "Measured",
    "Options",
    "Pause",
    "Piece",
    "PluginError",
    "PluginInfo",
    "PluginManager",
    "PluginRecord",
    "Ranks",
    "RateSchedule",
    "Reason",
    "Refused",
    "Resume",
    "Rows",
    "Rules",
    "Searcher",
    "SearcherContext",
    "Shutdown",
    "Spread",
    "StepReport",
    "Stop",
    "Stored",
    "StoredFile",
    "WorkerHandle",
    "WorkerSpec",
    "get_plugins",
    "hookimpl",
    "own_options",
    "python_of",
    "rate_schedule",
    "refuse_unknown",
    "require_checkpoint_id",
    "resolve_target",
    "text_option",
]
