"""How all ranks of a trial come to hear the same requests at the same batch."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, Final, final

from mnist_trials.clock import Clock
from mnist_trials.events import Request, StopRequest
from mnist_trials.plugin import Channel, Ranks

_SECONDS: Final = 0.05
"""About so long may a request go unheard."""

_MOST_BATCHES: Final = 256

_TICK_SECONDS: Final = 1.0
"""So often all ranks show, while they wait for word, that they are still there."""

_STOP: Final = 0


@final
class Leader:
    """Requests count as rank 0 hears them; the other ranks do not listen to their own channels.

    Rank 0 posts a number: 0 means that all stop, any other after how many batches its next word comes; a negative one
    that it has news besides. Each post is begun after one batch and looked at after the next: so it travels while the
    ranks compute, and all of them look at it after the same batch.

    Attributes:
        news: whether rank 0 has something to tell all; set after the same batch everywhere. Whoever hears it sets it
            back.
    """

    def __init__(
        self,
        ranks: Ranks,
        channel: Channel,
        clock: Clock,
        beat: Callable[[], None],
        has_news: Callable[[], bool],
    ) -> None:
        """`beat` is called whenever there is a sign of life; `has_news` is what rank 0 is asked."""
        self.news = False
        self._has_news = has_news
        self._ranks = ranks
        self._channel = channel
        self._now = clock.monotonic
        self._beat = beat
        self._leads = ranks.layout.rank == 0
        self._left = 1  # batches until something is to be done
        self._word: Callable[[], int] | None = None  # posted, not looked at yet
        self._heard: StopRequest | None = None  # by rank 0
        self._batches = 0  # between the last look and the next post
        self._posted_at = self._now()

    def stop_requested(self) -> StopRequest | None:
        """What rank 0 was asked for. Called by every rank after every batch."""
        self._beat()
        self._left -= 1
        if self._left:
            return None
        if self._word is None:
            self._word = self._ranks.post(self._number() if self._leads else _STOP)
            self._left = 1
            return None
        number, self._word = self._word(), None
        if number == _STOP:
            self._left = 1
            request: StopRequest = self._ranks.share(self._heard)
            return request
        self.news = self.news or number < 0
        self._left = self._batches = abs(number)
        return None

    def _number(self) -> int:
        """What rank 0 has to say."""
        self._heard = self._channel.stop_requested()
        if self._heard is not None:
            return _STOP
        now = self._now()
        per_batch = (now - self._posted_at) / (self._batches + 1)  # the batch between a post and the look at it
        self._posted_at = now
        batches = max(1, min(_MOST_BATCHES, int(_SECONDS / max(per_batch, 1e-9))))
        return -batches if self._has_news() else batches

    def finish(self) -> None:
        """Called by every rank when it trains no more: nothing is left under way."""
        if self._word is not None:
            self._word()
            self._word = None

    def wait_for_word(self) -> Request:
        """The answer that rank 0 gets to a `TrialHeld`. Called by every rank.

        Raises:
            Exception: whatever rank 0's channel raises, there.
        """
        waiting = _Waiting(self._channel) if self._leads else None
        while True:
            word: Request | None = self._ranks.share(None if waiting is None else waiting.look())
            self._beat()
            if word is not None:
                return word


@final
class _Waiting:
    """Waits for a channel's word in a thread of its own."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._word: Any = None
        self._error: Exception | None = None
        self._thread = Thread(target=self._wait, name="wait-for-word", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self._word = self._channel.wait_for_word()
        except Exception as error:  # raised again in the thread that trains, by `look`
            self._error = error

    def look(self) -> Request | None:
        """The word, if it comes within a tick."""
        self._thread.join(_TICK_SECONDS)
        if self._error is not None:
            raise self._error
        word: Request | None = self._word
        return word
