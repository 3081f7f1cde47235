"""What is shown of an experiment while it runs, on a person's terminal: a bar for each running trial.

Of a search there is also told how it stands, and what was decided last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO, final

from typing_extensions import override

from mnist_trials.cli.display import Display
from mnist_trials.cli.figures import Figures
from mnist_trials.cli.screen import ATTENTION
from mnist_trials.cli.sentences import TrialView
from mnist_trials.cli.story import Line, Story
from mnist_trials.events import Event, WorkersExited
from mnist_trials.plugin.logger import LoggerContext

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

_DECISIONS: Final = 3  # shown of the last ones
_NAME: Final = 5  # characters of a trial's name, such as 12.34, that are always shown
_OTHER_LINES: Final = 8  # of the terminal, that are not for bars


@final
class LiveDisplay(Display):
    """Bars at the bottom of the terminal; what stays to be read is written above.

    A search comes with its `story` and `figures`.
    """

    def __init__(self, stream: TextIO, story: Story | None = None, figures: Figures | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(story)
        self._figures = figures
        self._decisions: deque[str] = deque(maxlen=_DECISIONS)
        self._console = Console(file=stream, highlight=False, emoji=False, soft_wrap=True)
        self._bars = _bars(self._console)
        self._tasks: dict[int, TaskID] = {}
        self._live = Live(
            console=self._console,
            get_renderable=self._board,
            refresh_per_second=10,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @override
    def start(self, context: LoggerContext) -> None:
        super().start(context)
        self._look()
        self._live.start()

    @override
    def write(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style="bold yellow" if text.startswith(ATTENTION) else ""))

    @override
    def tell(self, line: Line) -> None:
        if line.short:
            self._decisions.append(line.short)
        elif not line.is_start:  # the trial's bar tells that
            self.write(line.text)

    @override
    def show(self, view: TrialView, event: Event) -> None:
        self._look()
        if isinstance(event, WorkersExited):
            if (task := self._tasks.pop(event.trial_id, None)) is not None:
                self._bars.remove_task(task)
                self.refresh()  # else the next line that is written would bring the bar back for a moment
            return
        if not view.running:
            return
        fields = _fields(view)
        if event.trial_id not in self._tasks:
            self._tasks[event.trial_id] = self._bars.add_task("", total=view.total_batches, **fields)
        self._bars.update(self._tasks[event.trial_id], completed=view.batches, total=view.total_batches, **fields)

    @override
    def close(self) -> None:
        self._live.stop()

    def refresh(self) -> None:
        """Show at once what is shown ten times a second."""
        self._live.refresh()

    def _look(self) -> None:
        if self._figures is not None:
            self._figures.refresh()

    def _board(self) -> RenderableType:
        """The bars, as many as there is room for, and below them how the search stands."""
        from rich.console import Group
        from rich.text import Text

        tasks = self._bars.tasks
        room = max(self._console.height - _OTHER_LINES, 1)
        lines = [f"and {len(tasks) - room} more trials are running"] if len(tasks) > room else []
        lines += [f"trial {self._experiment_id}.{trial} {why}" for trial, why in tuple(self.awaited.items())]
        if self._figures is not None:
            lines += [*self._figures.lines, *(f"decided: {text}" for text in self._decisions)]
        below = (Text(line, no_wrap=True, overflow="ellipsis") for line in lines)
        return Group(self._bars.make_tasks_table(tasks[:room]), *below)


def _bars(console: Console) -> Progress:
    """Draws the bars; the board shows them."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    name = Column(no_wrap=True, min_width=_NAME)  # cut last: it says whose the bar is
    metrics = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.fields[name]}", markup=False, table_column=name),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[place]}", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TextColumn("{task.fields[metrics]}", markup=False, table_column=metrics),
        console=console,
        auto_refresh=False,
        expand=True,
    )


def _fields(view: TrialView) -> Mapping[str, Any]:
    return {
        "name": view.name,
        "place": f"{view.place}  epoch {view.epochs:.2f}",
        "speed": view.speed,
        "metrics": "  ".join(part for part in (view.training, view.validation) if part),
    }
