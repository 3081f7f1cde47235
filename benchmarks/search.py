"""What searches cost and what they find: our searchers, and Ray Tune's and Optuna's where they can be had.

Two parts. `cost`: CPU time per decision, memory, snapshots, recovery. `quality`: regret on made-up learning curves.
The figures go to `results/search.log`, the tables made from them to `results/search.md`; a part that is not measured
keeps its figures. The peers live in an environment of their own, which is made in the temporary folder unless
`--peers` names an interpreter that has `ray[tune]` and `optuna`. Costs want a quiet machine; quality does not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from searches import tables
from searches.curves import FAMILIES, FULL, RUNGS, kept_of_the_best, rank_correlation
from searches.environment import child, machine, peers, versions
from searches.peers import PEERS
from searches.quality import BUDGETS, OURS, SLOTS

RESULTS = Path(__file__).parent / "results"
SIZES = (1000, 10_000, 100_000, 1_000_000)
OFTEN = 10_000  # trials; larger searches are measured once
PEER_SIZES = (1000, 10_000)
PEER_LIMIT = 120  # seconds of CPU
FIRST_SEED = 5001  # those before it were for developing
MEMORY = "/dev/shm"
Figures = dict[str, Any]


def cost(rounds: int, most: int, python: str | None) -> Iterator[tuple[str, Figures]]:
    """Figures with the name of their table. The order turns round by round, so that nobody always comes first."""
    for number in range(rounds):
        sizes = [size for size in SIZES if size <= (most if number == 0 else min(most, OFTEN))]
        turn = OURS[number % len(OURS) :] + OURS[: number % len(OURS)]
        for how, size, method in product(("bare", "simulate"), sizes, turn):
            print(f"round {number + 1}: {how} {method} {size}", file=sys.stderr, flush=True)
            yield (
                "pure",
                {"how": how, "method": method, "trials": size, "round": number} | child("pure", how, method, size)[0],
            )
        for size, method in product(PEER_SIZES, PEERS) if python else ():
            if size <= most and (number == 0 or size == PEER_SIZES[0]):
                print(f"round {number + 1}: {method} {size}", file=sys.stderr, flush=True)
                found = child("peer_cost", method, size, PEER_LIMIT, python=str(python))[0]
                yield "peers", {"method": method, "asked": size, "round": number} | found
        yield from through_the_store(number, most)


def through_the_store(number: int, most: int) -> Iterator[tuple[str, Figures]]:
    """In memory, where no disk is waited for; and smaller searches on disk. The largest of each only once."""
    places = [("memory", MEMORY, OURS, SIZES[:3])] if os.path.isdir(MEMORY) else []
    places.append(("disk", tempfile.gettempdir(), OURS[:2], SIZES[:2]))
    for where, folder, methods, sizes in places:
        for size, method in product(sizes, methods):
            if size <= most and (number == 0 or size != sizes[-1]):
                print(f"round {number + 1}: store in {where}, {method} {size}", file=sys.stderr, flush=True)
                found = child("store", method, size, folder)[0]
                yield "store", {"where": where, "method": method, "trials": size, "round": number} | found


def quality(seeds: int, python: str | None) -> list[Figures]:
    """All methods on all families and seeds, as many at once as there are cores: nothing is timed."""
    last = FIRST_SEED + seeds - 1
    methods = [("random", sys.executable), *((name, sys.executable) for name in OURS)]
    methods += [(name, python) for name in PEERS if python]

    def one(job: tuple[str, tuple[str, str]]) -> list[Figures]:
        family, (method, interpreter) = job
        found = child("quality", method, family, FIRST_SEED, last, python=interpreter)
        print(f"{family}: {method}", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [figures for some in pool.map(one, product(FAMILIES, methods)) for figures in some]


def page(figures: Figures) -> str:
    """The whole of `results/search.md`."""
    lines = ["# Searches: what decisions cost, and what they find", ""]
    if "cost" in figures:
        part = figures["cost"]
        lines += [
            "## Cost",
            "",
            f"{part['date']}, {part['machine']}; {part['peers']}; {part['rounds']} rounds.",
            "",
            COST,
        ]
        lines += [PURE, *tables.pure(part["pure"])]
        if part["peer_rows"]:
            lines += [PEER, *tables.peers(part["peer_rows"], part["pure"])]
        lines += [STORE, *tables.store(part["store"])]
    if "quality" in figures:
        part = figures["quality"]
        lines += ["## Quality", "", f"{part['date']}; {part['peers']}; {part['seeds']} seeds.", "", QUALITY]
        rows = part["rows"]
        lines += [*tables.families(part["families"]), *tables.quality(rows), PAIRED]
        lines += tables.by_family(rows, "random", BUDGETS[-2])
        for against in dict.fromkeys(row["method"] for row in rows if row["method"] not in OURS):
            lines += tables.by_budget(rows, against)
    return "\n".join(lines)


COST = f"""\
A decision is one validation that is reported; whatever else it leads to (new trials, exits) is counted with it. {SLOTS}
trials run at a time; at most 256 units, 5 rungs, divisor 4 (`adaptive_asha`: its defaults). "Promoting" is
`stop_once: false`. Median over rounds (range), more than {OFTEN:,} trials once; "MB more" is how much the process grew.
"""
PURE = (
    "`bare`: the searcher and a queue of trials, nothing else. `simulate`: the whole of `mt.simulate`, records kept.\n"
)
PEER = f"""\
The peers, called directly with trials that are all but empty, no cluster and storage in memory; 10,000 trials once, and
at most {PEER_LIMIT} s of CPU.
"""
STORE = """\
Through the real controller and a real SQLite file; only the workers are made up. "CPU us per decision" is what passes
between the arrival of a validation and the next event; the other columns spread everything that happens in the life of
a trial (launch, start, checkpoints, exit: six transactions and more) over its validations. In memory nobody waits for a
disk. Recovery: from the beginning of a new controller until it waits for events.
"""
QUALITY = f"""\
Losses are made up (`searches/curves.py` says how) and the same for all methods: trial i of seed s is the same
configuration. Every trial is validated after 1, 2, 4 .. {FULL} units; methods judge after 1, 4, 16 and {FULL}, and one
in 4 goes on. {SLOTS} trials run at a time, each at its own speed. Regret: the true loss of the checkpoint that
reported best so far, less the best of all configurations at the full length. Budgets count full trainings of {FULL}
units, spent by all trials together. Means over seeds, 95 % confidence intervals, which are not widened for being many.

How far early reports tell the end: their rank correlation with the final truth, and how many of the truly best
sixteenth are among the best quarter then (a quarter would be by chance):
"""
PAIRED = """\
### Seed by seed

How much less regret a method has than another one on the same configurations, in percent of the mean regret of random
search there; ours in bold. `asha` decides as Optuna's pruner does: their rule is the same.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("cost", "quality"), help="measure only this part")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring costs")
    parser.add_argument("--seeds", type=int, default=200, help="of searches whose quality is measured")
    parser.add_argument(
        "--most", type=int, default=SIZES[-1], help="trials of the largest search whose cost is measured"
    )
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter that has ray[tune] and optuna")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write search.log and search.md")
    given = parser.parse_args()
    python = None if given.no_peers else peers(given.peers)
    common = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
    common["peers"] = versions(python) if python else "no peers"
    raw = given.results / "search.log"
    figures: Figures = json.loads(raw.read_text()) if raw.exists() else {}
    if given.only != "quality":
        rows: dict[str, list[Figures]] = {"pure": [], "peers": [], "store": []}
        for name, row in cost(given.rounds, given.most, python):
            rows[name].append(row)
        figures["cost"] = common | {
            "rounds": given.rounds,
            "pure": rows["pure"],
            "peer_rows": rows["peers"],
            "store": rows["store"],
        }
    if given.only != "cost":
        found = {
            family: [[rank_correlation(family, units), kept_of_the_best(family, units)] for units in RUNGS[:-1]]
            for family in FAMILIES
        }
        figures["quality"] = common | {"seeds": given.seeds, "families": found, "rows": quality(given.seeds, python)}
    raw.write_text(json.dumps(figures) + "\n")
    text = page(figures)
    (given.results / "search.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
