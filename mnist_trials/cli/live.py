"""What is shown of an experiment while it runs, on a person's terminal: a line per running trial that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO, final

from typing_extensions import override

from mnist_trials.cli.display import Display, TrialView
from mnist_trials.cli.screen import ATTENTION
from mnist_trials.events import Event, WorkersExited
from mnist_trials.plugin.logger import LoggerContext

if TYPE_CHECKING:
    from rich.progress import TaskID


@final
class LiveDisplay(Display):
    """A bar per running trial at the bottom of the terminal; what stays to be read is written above."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        super().__init__()
        self._console = Console(file=stream, highlight=False, emoji=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[place]}", markup=False),
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn(
                "{task.fields[metrics]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            console=self._console,
            transient=True,
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[int, TaskID] = {}

    @override
    def start(self, context: LoggerContext) -> None:
        super().start(context)
        self._progress.start()

    @override
    def write(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style="bold yellow" if text.startswith(ATTENTION) else ""))

    @override
    def show(self, view: TrialView, event: Event) -> None:
        if isinstance(event, WorkersExited):
            if (task := self._tasks.pop(event.trial_id, None)) is not None:
                self._progress.remove_task(task)
                self._progress.refresh()  # else the next line that is written would bring the bar back for a moment
            return
        if not view.running:
            return
        fields = _fields(view)
        if event.trial_id not in self._tasks:
            self._tasks[event.trial_id] = self._progress.add_task("", total=view.total_batches, **fields)
        self._progress.update(self._tasks[event.trial_id], completed=view.batches, total=view.total_batches, **fields)

    @override
    def close(self) -> None:
        self._progress.stop()


def _fields(view: TrialView) -> Mapping[str, Any]:
    return {
        "name": view.name,
        "place": f"{view.place}  epoch {view.epochs:.2f}",
        "speed": view.speed,
        "metrics": "  ".join(part for part in (view.training, view.validation) if part),
    }
