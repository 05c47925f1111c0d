"""Rules are searched for in time, the same as in this process, by a child that is safe."""

import os
import re

import pytest
from hypothesis import given, strategies as st

from seedmap.experiments.checkpoints import matching
from seedmap.experiments.checkpoints.matching import first_found, first_found_in_time

PATTERNS = st.sampled_from(["a", "b$", "^a", r"(a|b)\.c", ".", "x"])
NAMES = st.text("ab.c", max_size=6)
AXES = st.integers(0, 2)


@given(
    st.lists(st.tuples(PATTERNS, st.none() | AXES), max_size=4),
    st.lists(st.tuples(NAMES, AXES), max_size=4),
)
def test_the_first_rule_for_the_axes_decides(rules, tensors):
    for (name, axes), found in zip(tensors, first_found(rules, tensors), strict=True):
        fitting = [
            i
            for i, (pattern, ndim) in enumerate(rules)
            if re.search(pattern, name) and (ndim is None or ndim == axes)
        ]
        assert found == (fitting[0] if fitting else None)


def test_a_child_gives_the_same_and_imports_nothing_from_the_working_folder(tmp_path, monkeypatch):
    for name in ("json.py", "re.py", "resource.py", "seedmap.py", "signal.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the working folder was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", ""]))
    rules, tensors = (("a", None), ("é", 2)), (("xé", 2), ("a", 0), ("b", 1))
    assert first_found_in_time(rules, tensors) == first_found(rules, tensors) == [1, 0, None]


def test_a_search_without_end_is_ended(monkeypatch):
    monkeypatch.setattr(matching, "SECONDS", 1)
    with pytest.raises(ValueError, match=r"^--rules: searching 1 names for 1 .* over 1 seconds"):
        first_found_in_time((("(a+)+$", None),), (("a" * 50 + "!", 2),))
