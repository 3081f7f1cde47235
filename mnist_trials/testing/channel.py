"""A line to a controller that is a list in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar, final

from typing_extensions import override

from mnist_trials.events import Event, Request, StopRequest
from mnist_trials.plugin import Channel
from mnist_trials.records import Outcome

E = TypeVar("E", bound=Event)


@final
class RecordingChannel(Channel):
    """Keeps every event, asks for a stop when it is told to, and answers a trial that is held.

    Attributes:
        events: all events, in order.
        request: what `stop_requested` answers; may be set at any time.
        answers: what `wait_for_word` will answer, in order; a trial that is held once too often fails.
    """

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        """`on_event` is called with every event, after it was kept."""
        self.events: list[Event] = []
        self.request: StopRequest | None = None
        self.answers: deque[Request] = deque()
        self._on_event = on_event
        self._polls_left: int | None = None

    def stop_at_poll(self, polls: int, outcome: Outcome = Outcome.PAUSED) -> None:
        """Ask for a stop at the `polls`-th call of `stop_requested` from now on."""
        self._polls_left = polls
        self._outcome = outcome

    @override
    def emit(self, event: Event) -> None:
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)

    @override
    def stop_requested(self) -> StopRequest | None:
        if self._polls_left is not None:
            self._polls_left -= 1
            if self._polls_left <= 0:
                self._polls_left = None
                self.request = StopRequest(self._outcome)
        return self.request

    @override
    def wait_for_word(self) -> Request:
        if self.request is None:
            assert self.answers, "the trial is held, and the test has no answer left"
            answer = self.answers.popleft()
            if not isinstance(answer, StopRequest):
                return answer
            self.request = answer
        return self.request

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]
