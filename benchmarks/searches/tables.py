"""The tables of `results/search.md`, out of the figures in `results/search.log`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean, median
from typing import Any

from searches.curves import FAMILIES, FULL, RUNGS
from searches.quality import BUDGETS, OURS, WHOLE
from searches.statistics import interval, share, spread, win

Rows = list[dict[str, Any]]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """In Markdown, with an empty line behind it."""
    head = list(head)
    return [_line(head), _line("---" for _ in head), *map(_line, rows), ""]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _grouped(rows: Rows, *keys: str) -> dict[tuple[Any, ...], Rows]:
    groups: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def _of(rows: Rows, key: str) -> list[float]:
    return [row[key] for row in rows]


def pure(rows: Rows) -> list[str]:
    """Decisions of our searchers without a store; each size over the smallest of the same round."""
    lines = []
    for (how, method, trials), group in _grouped(rows, "how", "method", "trials").items():
        smallest = {
            row["round"]: row for row in rows if (row["how"], row["method"], row["trials"]) == (how, method, 1000)
        }
        ratios = [row["cpu_us"] / smallest[row["round"]]["cpu_us"] for row in group if row["round"] in smallest]
        snapshot = f"{group[0]['snapshot_bytes'] / 1e6:,.2f}" if how == "bare" else "-"
        per_second = f"{1e6 / median(_of(group, 'cpu_us')):,.0f}"
        costs = [spread(_of(group, "cpu_us")), spread(_of(group, "wall_us")), per_second, spread(ratios, 2)]
        lines.append([how, method, f"{trials:,}", *costs, f"{median(_of(group, 'megabytes')):,.0f}", snapshot])
    head = ["", "searcher", "trials", "CPU us per decision", "wall us", "decisions per CPU second"]
    return table([*head, "CPU over that at 1,000", "MB more", "snapshot, MB"], lines)


def peers(rows: Rows, ours: Rows) -> list[str]:
    """The peers' decisions, over those of our `asha` in the same round."""
    bare = {(row["trials"], row["round"]): row for row in ours if (row["how"], row["method"]) == ("bare", "asha")}
    lines = []
    for (method, trials), group in _grouped(rows, "method", "asked").items():
        ratios = [
            row["cpu_us"] / bare[trials, row["round"]]["cpu_us"] for row in group if (trials, row["round"]) in bare
        ]
        begun = min(row["trials"] for row in group)
        size = f"{trials:,}" if begun >= trials else f"{trials:,}, cut off after {begun:,}"
        lines.append([method, size, spread(_of(group, "cpu_us")), spread(_of(group, "wall_us")), spread(ratios, 0)])
    return table(["peer", "trials", "CPU us per decision", "wall us", "CPU, over our asha's"], lines)


def store(rows: Rows) -> list[str]:
    """Decisions through controller and store, and recovery."""
    lines = []
    for (where, method, trials), group in _grouped(rows, "where", "method", "trials").items():
        times = [spread(_of(group, key), 0) for key in ("decision_us", "all_us", "wall_us")]
        sizes = [f"{median(_of(group, key)) / 1e6:,.2f}" for key in ("snapshot_bytes", "store_bytes")]
        recovery = f"{median(_of(group, 'recovery_cpu')):.2f} / {median(_of(group, 'recovery_wall')):.2f}"
        replayed = f"{median(_of(group, 'replayed')):,.0f}"
        memory = f"{median(_of(group, 'megabytes')):,.0f}"
        lines.append([where, method, f"{trials:,}", *times, memory, *sizes, replayed, recovery])
    head = [
        "store in",
        "searcher",
        "trials",
        "CPU us per decision",
        "CPU us, all events of its trial too",
        "wall us, all",
    ]
    more = ["MB more", "snapshot, MB", "store, MB", "decisions replayed", "recovery, s of CPU / wall"]
    return table([*head, *more], lines)


def families(found: dict[str, list[list[float]]]) -> list[str]:
    """How much early reports say about the final truth."""
    head = ["family", *(f"after {units} of {FULL}" for units in RUNGS[:-1])]
    rows = [[family, *(f"{rank:.2f} / {kept:.0%}" for rank, kept in values)] for family, values in found.items()]
    return table(head, rows)


def quality(rows: Rows) -> list[str]:
    """One table for each family."""
    lines = []
    for family in FAMILIES:
        groups = {key[0]: group for key, group in _grouped(rows, "method", "family").items() if key[1] == family}
        if "random" in groups:
            lines += [f"### `{family}`", "", *_family(groups)]
    return lines


def _family(groups: dict[str, Rows]) -> list[str]:
    baseline = {row["seed"]: row for row in groups["random"]}
    lines = []
    for method, group in groups.items():
        means = [f"{interval([row['regret'][str(budget)] for row in group])[0]:.4f}" for budget in BUDGETS]
        wins = [
            share([win(row["regret"][str(budget)], baseline[row["seed"]]["regret"][str(budget)]) for row in group])
            for budget in BUDGETS[-2:]
        ]
        regret = f"{interval([row['whole']['regret'] for row in group])[0]:.4f}"
        units = f"{interval([row['whole']['units'] for row in group])[0]:,.0f}"
        lines.append([method, *means, *(["-", "-"] if method == "random" else wins), regret, units])
    lengths = [budget // FULL for budget in BUDGETS]
    head = ["method", *(f"regret at {length}" for length in lengths)]
    head += [f"wins over random at {length}" for length in lengths[-2:]]
    return table([*head, f"regret after {WHOLE} trials", "units they took"], lines)


def by_family(rows: Rows, against: str, budget: int) -> list[str]:
    """How much less regret than `against`, seed by seed, for each family."""
    gains = _gains(rows, against, budget)
    lines = [
        [_name(method), *(_cell([gains[method, family, seed] for seed in _seeds(rows)]) for family in FAMILIES)]
        for method in _methods(rows, against)
    ]
    return table([f"less regret than {against} at {budget // FULL}", *FAMILIES], lines)


def by_budget(rows: Rows, against: str) -> list[str]:
    """The same as the mean over the families, for each budget."""
    gains = {budget: _gains(rows, against, budget) for budget in BUDGETS}
    lines = []
    for method in _methods(rows, against):
        cells = []
        for budget in BUDGETS:
            by_seed = [[gains[budget][method, family, seed] for family in FAMILIES] for seed in _seeds(rows)]
            cells.append(_cell([fmean(values) for values in by_seed]))
        lines.append([_name(method), *cells])
    return table([f"less regret than {against}, mean of families", *(f"at {b // FULL}" for b in BUDGETS)], lines)


def _gains(rows: Rows, against: str, budget: int) -> dict[tuple[str, str, int], float]:
    """By method, family and seed: in percent of the mean regret of random search in that family."""
    regret = {(row["method"], row["family"], row["seed"]): row["regret"][str(budget)] for row in rows}
    scale = {family: fmean(regret["random", family, seed] for seed in _seeds(rows)) for family in FAMILIES}
    return {key: 100 * (regret[against, key[1], key[2]] - value) / scale[key[1]] for key, value in regret.items()}


def _seeds(rows: Rows) -> list[int]:
    return sorted({row["seed"] for row in rows})


def _methods(rows: Rows, against: str) -> list[str]:
    return [method for method in dict.fromkeys(row["method"] for row in rows) if method != against]


def _name(method: str) -> str:
    return f"**{method}**" if method in OURS else method


def _cell(gains: list[float]) -> str:
    mean, half = interval(gains)
    return f"{mean:+.1f} % (± {half:.1f})"
