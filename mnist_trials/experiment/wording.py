"""What a searcher is asked and what it answers, as it is stored and compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

from mnist_trials.errors import PluginError
from mnist_trials.plugin.searcher import Action, Create, Judgement, Pause, Reason, Resume, Shutdown, Stop
from mnist_trials.store.rows import DecisionRow

Event = Literal["initial_trials", "validation_completed", "trial_exited", "trial_failed"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call of the searcher's method `event`."""

    event: Event
    trial_id: int | None = None
    units: int | None = None
    metric: float | None = None
    reason: str = ""

    def arguments(self) -> tuple[object, ...]:
        """What the method is called with, besides the context."""
        match self.event:
            case "initial_trials":
                return ()
            case "validation_completed":
                return (self.trial_id, self.units, self.metric)
            case "trial_exited":
                return (self.trial_id,)
            case "trial_failed":
                return (self.trial_id, self.reason)

    @classmethod
    def stored(cls, row: DecisionRow) -> Question:
        """The question that `row` is the answer to."""
        return cls(
            event=row.event,  # type: ignore[arg-type]  # written from such a record
            trial_id=row.trial_id,
            units=row.units,
            metric=row.metric,
            reason=row.reason,
        )


def check(searcher: str, actions: object) -> list[Action]:
    """`actions`, which are what the searcher of that name returned.

    Raises:
        PluginError: they are no actions, or hold what actions cannot hold.
    """
    if not isinstance(actions, Iterable):
        raise PluginError(f"The searcher '{searcher}' returned {actions!r}: not a list of actions.")
    checked = list(actions)
    for action in checked:
        if not isinstance(action, Create | Stop | Pause | Resume | Shutdown):
            raise PluginError(f"The searcher '{searcher}' returned {action!r}: not an action.")
        if wrong := _wrong(action):
            raise PluginError(f"The searcher '{searcher}' returned {action!r}: {wrong}.")
    return checked


def _wrong(action: Action) -> str:
    """What `action` holds that it cannot hold; empty for nothing."""
    numbers = [name for name in ("until", "source", "trial_id") if _is_no_count(getattr(action, name, None))]
    if numbers:
        return f"{numbers[0]} must be a whole number of at least 1"
    if isinstance(action, Resume | Stop | Pause) and action.trial_id is None:
        return "trial_id must be a whole number of at least 1"
    if isinstance(action, Resume) and action.until is None:
        return "until must be a whole number of at least 1"
    return _wrong_sentence(action.why) if isinstance(action, Shutdown) else _wrong_reason(action.why)


def _wrong_sentence(why: object) -> str:
    return "" if isinstance(why, str) else "why must be a sentence"


def _wrong_reason(why: object) -> str:
    if why is not None and not isinstance(why, Judgement | str):
        return "why must be a Judgement or a sentence"
    if isinstance(why, Judgement) and _is_no_threshold(why.threshold):
        return "a threshold must be a number, and None where it is not finite"
    return ""


def _is_no_count(value: object) -> bool:
    return value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1)


def _is_no_threshold(value: object) -> bool:
    return value is not None and not (isinstance(value, int | float) and math.isfinite(value))


def to_store(action: Action, trial_id: int | None) -> dict[str, Any]:
    """`action` as it is stored, for the trial it is about."""
    document: dict[str, Any] = {"action": type(action).__name__}
    if trial_id is not None:
        document["trial_id"] = trial_id
    for name in ("until", "source"):
        if (value := getattr(action, name, None)) is not None:
            document[name] = value
    if action.why:
        document["why"] = _reason(action.why)
    return document


def same(action: Action, stored: Mapping[str, Any]) -> bool:
    """Whether `stored` is what is stored of `action`, the reason left out."""
    trial_id = stored.get("trial_id") if isinstance(action, Create) else getattr(action, "trial_id", None)
    return to_store(action, trial_id) | {"why": None} == {**stored, "why": None}


def in_words(stored: Mapping[str, Any]) -> str:
    """A stored action for a person: `Resume(trial_id=3, until=16)`."""
    values = ", ".join(f"{name}={value}" for name, value in stored.items() if name not in ("action", "why"))
    return f"{stored['action']}({values})"


def _reason(why: Reason) -> str | dict[str, Any]:
    return why if isinstance(why, str) else asdict(why)
