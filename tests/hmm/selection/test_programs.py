"""What a sweep of Gaussian HMMs says it compiles is what it compiles: names and shapes."""

import numpy as np
import pytest

import seedmap as sm
from helpers.compiled import compilations
from seedmap.hmm.em import candidates, loop
from seedmap.hmm.inference import best_paths
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.programs import sweep_programs

RUNS, STATES, RESTARTS = 10, (1, 2), 1
SWEEP = (candidates.start, loop.iterate, loop.evaluate, best_paths)


@pytest.mark.parametrize(("records", "is_thinned"), [(20, False), (600, True)])
def test_a_sweep_compiles_the_programs_that_are_listed(records, is_thinned):
    """Short runs of EM see some of the records, where there are many."""
    levels = np.repeat([[0.0, 0.0], [3.0, 1.0]], records // 2, axis=0)
    values = levels + np.random.default_rng(0).normal(0, 0.2, (RUNS, records, 2))
    runs = sm.from_arrays(values)
    with compilations(*SWEEP) as ran:
        m = sm.fit_map(runs, emission="gaussian", states=STATES, restarts=RESTARTS, iterations=4)
    sizes = len(m.fit.sweep.train_runs), RUNS, records, 2
    programs = sweep_programs(SweepConfig(STATES, RESTARTS), *sizes)
    assert ("EM of short runs" in [name for name, *_ in programs]) == is_thinned
    with compilations(*SWEEP) as listed:
        for _, function, arguments in programs:
            function.lower(*arguments)
    own = {f"jit({function.__name__})" for function in SWEEP}
    assert {said for said in ran if said.split()[1] in own} == {*listed}
