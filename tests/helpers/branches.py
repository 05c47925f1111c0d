"""A branch as `find_branches` gives it."""

from seedmap.hmm import Branch

BRANCH = Branch(
    state=2,
    num_states=4,
    previous=0,
    instead=1,
    visitors=("0", "1"),
    skippers=("2", "3"),
    z=4.0,
    separation=5.0,
    timing=0.5,
    resolved=3,
    needed=3,
    support=1.0,
    named=True,
    stays=0.0,
    end_z=0.0,
    delay=None,
    detour=False,
    maps=((4, 2),),
)
