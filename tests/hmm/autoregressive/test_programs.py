"""What a map says it compiles is what it compiles: names and shapes, read off JAX's own log."""

import numpy as np
import pytest

import seedmap as sm
from helpers.compiled import compilations
from seedmap import hmm
from seedmap.hmm.autoregressive import em
from seedmap.hmm.autoregressive.fits import precision
from seedmap.hmm.autoregressive.programs import lane_programs

RECORDS = 20
FEW = ["EM start, 4", "EM, 4", "given states, 4", "decoding, 4"]
ENGINE = (em.start, em.settle, em.advance, em.evaluate, em.log_emissions)


def runs(count):
    """Runs through two places."""
    levels = np.repeat([[0.0, 0.0], [3.0, 1.0]], RECORDS // 2, axis=0)
    values = levels + np.random.default_rng(0).normal(0, 0.2, (count, RECORDS, 2))
    return sm.from_arrays(values)


@pytest.mark.parametrize(
    ("count", "states", "names"),
    [
        (5, (1, 2), FEW),
        (12, (1, 2), [*FEW, "EM start, 10", "EM, 10", "decoding, 10"]),
        (5, (11,), [*FEW, "EM start, 20", "EM, 20", "given states, 20", "decoding, 20"]),
    ],
    ids=["too few runs for branches", "branches sought at more states", "many states"],
)
def test_a_map_compiles_the_programs_that_are_listed(count, states, names):
    """As 4 to 10 states are searched for branches, whatever numbers are asked for."""
    data = runs(count)
    with compilations(*ENGINE) as ran:
        m = sm.fit_map(data, states=states, restarts=1, iterations=2, resamples=1)
        model = m.fit.made.model
        hmm.filter_runs(model, data.sequences)
    with precision():
        sizes = count, count, RECORDS, model.scale.num_components
        *programs, _ = lane_programs(states, *sizes)
        *_, last = lane_programs([model.num_states], *sizes)
        with compilations(*ENGINE) as listed:
            for _, function, arguments in (*programs, last):
                function.lower(*arguments)
    assert [name for name, *_ in programs] == [f"{name} states" for name in names]
    assert last[0] == f"filter, {model.num_states} states"
    assert sorted(listed) == sorted(ran)
