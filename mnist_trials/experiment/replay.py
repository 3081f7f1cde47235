"""Bringing a searcher to where it was: its last snapshot, then every decision since."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_trials.errors import PluginError
from mnist_trials.experiment.search import Search
from mnist_trials.experiment.wording import Question, in_words, same, to_store
from mnist_trials.plugin.searcher import Action, Create, Shutdown
from mnist_trials.store import Reader
from mnist_trials.store.rows import DecisionRow


def bring_back(search: Search, reader: Reader, experiment_id: int) -> None:
    """Bring `search`, which is fresh, to where the experiment's last controller left it; changes nothing else.

    Raises:
        PluginError: the searcher fails, or decides otherwise than it did.
    """
    saved = reader.searcher(experiment_id)
    if saved is None:
        return
    snapshot, shut_down, after = saved
    search.restore(snapshot, shut_down)
    for row in reader.each_decision(experiment_id, after):
        answer = search.ask(Question.stored(row))
        _compare(search, row, answer)
        search.shut_down = search.shut_down or any(isinstance(action, Shutdown) for action in answer)
        search.decided(row.id)
    if search.shut_down:
        search.why = reader.shutdown_reason(experiment_id)


def _compare(search: Search, row: DecisionRow, answer: Sequence[Action]) -> None:
    if len(answer) == len(row.actions) and all(map(same, answer, row.actions)):
        return
    about = "" if row.trial_id is None else f" of trial {row.trial_id}"
    raise PluginError(
        f"The searcher '{search.name}' decides otherwise than it did: on {row.event}{about} it answered "
        f"{_listed([in_words(action) for action in row.actions])}, and now "
        f"{_listed([in_words(to_store(action, _about(action))) for action in answer])}. Is it another version of the "
        "plugin, or does it depend on more than its events? Nothing was changed; with the version that the experiment "
        "was begun with it can go on."
    )


def _about(action: Action) -> int | None:
    return None if isinstance(action, Create | Shutdown) else action.trial_id


def _listed(words: Sequence[str]) -> str:
    shown = [*words[:5], *([f"... ({len(words)} in all)"] if len(words) > 5 else [])]
    return f"[{', '.join(shown)}]"
