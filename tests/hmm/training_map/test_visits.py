import numpy as np

from seedmap.hmm.training_map.visits import find_visits


def test_visits_by_hand():
    """One record is a visit only at the end; of several visits the first and the last count."""
    paths = np.array(
        [
            [0, 0, 1, 0, 0, 2, 2, 2],
            [0, 0, 1, 1, 0, 1, 1, 2],
            [2, 0, 0, 0, 0, -1, -1, -1],
        ]
    )
    visits = find_visits(paths, 4)
    assert visits.visited.astype(int).tolist() == [[1, 0, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
    assert visits.entered.tolist() == [[0, -1, 5, -1], [0, 2, 7, -1], [1, -1, -1, -1]]
    assert visits.departed.tolist() == [[2, -1, 8, -1], [2, 4, 8, -1], [5, -1, -1, -1]]
    assert visits.left.tolist() == [[5, -1, 8, -1], [2, 7, 8, -1], [5, -1, -1, -1]]
    assert visits.last.tolist() == [2, 2, 0]
