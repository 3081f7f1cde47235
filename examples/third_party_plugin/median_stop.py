"""`median_stop`: a trial ends early when it does worse than the middle one of all that came as far as it did.

    searcher: {name: median_stop, metric: validation_loss, max_trials: 20, max_length: {epochs: 8}}

This is the median stopping rule of Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, on
the metric as it is at each validation. Trials must be validated at the same points to be compared.
"""

from copy import deepcopy
from math import inf
from statistics import median_high

from mnist_trials.plugin import Create, PluginRecord, Searcher, Shutdown, Stop, hookimpl


class MedianStop(Searcher):
    def __init__(self, config, hyperparameters):
        self.sign = 1 if config["smaller_is_better"] else -1
        self.max_trials = config.get("max_trials", 20)
        self.state = {"made": 0, "ended": 0, "silent": [], "seen": {}}

    def create(self, count):
        count = min(count, self.max_trials - self.state["made"])
        self.state["made"] += count
        return [Create()] * count

    def initial_trials(self, ctx):
        return self.create(4)

    def validation_completed(self, ctx, trial_id, units, metric):
        if trial_id in self.state["silent"]:
            return []
        seen = self.state["seen"].setdefault(str(units), [])
        seen.append(metric)
        scores = [inf if other is None else self.sign * other for other in seen]
        if scores[-1] <= median_high(scores):
            return []
        self.state["silent"].append(trial_id)
        return [Stop(trial_id, f"worse than the middle one of {len(seen)} trials after {units}")]

    def trial_exited(self, ctx, trial_id):
        self.state["silent"].append(trial_id)
        self.state["ended"] += 1
        return self.create(1) or ([Shutdown()] if self.state["ended"] == self.max_trials else [])

    def trial_failed(self, ctx, trial_id, reason):
        return self.trial_exited(ctx, trial_id)

    def progress(self):
        return self.state["ended"] / self.max_trials

    def snapshot(self):
        return deepcopy(self.state)

    def restore(self, snapshot):
        self.state = deepcopy(snapshot)


@hookimpl
def mnist_trials_searchers():
    return [PluginRecord("median_stop", "ends trials that are worse than the median", MedianStop)]
