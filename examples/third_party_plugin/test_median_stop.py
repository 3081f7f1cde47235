from mnist_trials.plugin import Create, SearcherContext, Stop, get_plugins
from mnist_trials.testing import SearcherSuite

CONTEXT = SearcherContext(experiment_seed=0, sample=lambda index: {})


class TestMedianStop(SearcherSuite):
    plugin = "median_stop"

    def config(self):
        return {**super().config(), "max_trials": 9}


def test_the_worse_half_ends_early():
    searcher = get_plugins().find("searcher", "median_stop").make({"smaller_is_better": False, "max_trials": 9}, {})
    assert searcher.initial_trials(CONTEXT) == [Create()] * 4
    assert searcher.validation_completed(CONTEXT, 1, 10, 0.5) == []
    assert searcher.validation_completed(CONTEXT, 2, 10, 0.9) == []
    assert searcher.validation_completed(CONTEXT, 3, 10, 0.4) == [
        Stop(3, "worse than the middle one of 3 trials after 10")
    ]
    assert searcher.trial_exited(CONTEXT, 3) == [Create()]
