"""How many replicas to run together: found by trial."""


def choose_seeds_at_once(build, streams, hyper, pool, devices):
    """Placeholder until measured below."""
    return len(streams.init)
