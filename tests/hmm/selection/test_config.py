"""What a sweep cannot be asked."""

import pytest

from seedmap.hmm.selection.config import SweepConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(states=()), "whole numbers from 1 up"),
        (dict(states=(0, 1)), "whole numbers from 1 up"),
        (dict(states=(2, 2)), "different whole numbers"),
        (dict(restarts=0), "restarts and iterations must be at least 1"),
        (dict(iterations=0), "restarts and iterations must be at least 1"),
        (dict(covariance="tied"), "full, diagonal, spherical, shared; got 'tied'"),
        (dict(prior="strong"), "prior must be one of held-out, weak"),
    ],
)
def test_a_bad_config_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SweepConfig(**settings)
