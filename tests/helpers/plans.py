"""A plan of made-up numbers, where nothing is to be compiled."""

from seedmap.experiments.plan.results import (
    UNITS,
    Amount,
    Bound,
    CompileSeconds,
    Determinism,
    Found,
    Hardware,
    Memory,
    MostSeeds,
    Plan,
    ProgramPlan,
    Tried,
)


def small_plan(seeds=5):
    """A plan of seeds of which 4 fit at once."""
    return Plan(
        experiment="parities",
        preset="quick",
        hyperparameters={"seeds": seeds},
        hardware=Hardware(
            "gpu:h100", "NVIDIA H100 80GB HBM3", "gpu", 1, 8000, 5000, 1e12, {"float32": 1e12}, "a"
        ),
        versions={"jax": "0"},
        steps=100,
        records=10,
        compile_seconds={"training": CompileSeconds(2.0, 3.0)},
        memory=Memory(3, 1000, 200, 10, 700, 30, 1000, 2940),
        most_seeds=MostSeeds(
            4, 4, seeds, False, 1, 2, [Tried(4, 1940, True), Tried(5, None, False)]
        ),
        operations=Amount(1e6, 2e6, 2.4e8, True, "counted"),
        bytes=Amount(1e5, 1e5, 2.2e7, False, "counted"),
        collectives=[],
        custom_calls=[Found("training", "cusolver_gesvdj_ffi", 2)],
        callbacks=[],
        nondeterministic=[
            Determinism(
                "training", None, {"scatter": [1, 0], "sort": [0, 1]}, [9.0, 12.0], [2, 3], 1.2e7
            )
        ],
        bound_seconds=Bound(2.4e-4, 2.2e-5, 2.4e-4, "products", "float32"),
        programs=[ProgramPlan("training", 1.2e7, 1.1e6, 700, 0)],
        units=UNITS,
        notes=["compiled for, not run on"],
    )
