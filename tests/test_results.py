"""Dataclasses to the JSON of files and back."""

from dataclasses import dataclass, field

import jsonschema
import numpy as np
import pytest

from helpers.noise_summary import LONG, make_study
from seedmap.errors import UserError
from seedmap.experiments.noise.results import StudySummary
from seedmap.results import ABSENT, Absent, from_json, json_schema, named, to_json


@dataclass(frozen=True)
class Edge:
    source: int = field(metadata=named("from"))
    weight: float | None


@dataclass(frozen=True)
class Graph:
    name: str | None
    edges: list[Edge]
    size: tuple[int, float]
    ends: dict[str, Edge]
    seeds: list[int | str]
    score: float | Absent | None = ABSENT


GRAPH = Graph("g", [Edge(1, 0.5), Edge(2, None)], (3, 4.0), {"a": Edge(0, 1.0)}, [7, "b"])
CONTENT = {
    "name": "g",
    "edges": [{"from": 1, "weight": 0.5}, {"from": 2, "weight": None}],
    "size": [3, 4.0],
    "ends": {"a": {"from": 0, "weight": 1.0}},
    "seeds": [7, "b"],
}


def test_a_dataclass_is_the_mapping_of_its_fields_in_their_order():
    assert to_json(GRAPH) == CONTENT
    assert list(to_json(GRAPH)) == list(CONTENT)
    assert from_json(Graph, CONTENT) == GRAPH


def test_absent_is_left_out_and_none_is_not():
    for score in (None, 0.5):
        content = CONTENT | {"score": score}
        graph = Graph(GRAPH.name, GRAPH.edges, GRAPH.size, GRAPH.ends, GRAPH.seeds, score)
        assert to_json(graph) == content
        assert from_json(Graph, content) == graph
    assert not ABSENT
    assert repr(ABSENT) == "ABSENT"


def test_arrays_are_lists_and_numbers_that_are_not_finite_null():
    content = to_json({1: np.array([[1.5, np.nan]]), "n": np.int64(3), "b": np.True_, "i": -np.inf})
    assert content == {"1": [[1.5, None]], "n": 3, "b": True, "i": None}
    assert type(content["n"]) is int
    assert content["b"] is True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"edges": [{"from": 1}]}, "has no 'edges.0.weight'"),
        ({"edges": [{"from": 1, "weight": 1.0, "to": 2}]}, "has an unknown field 'edges.0.to'"),
        ({"edges": [{"from": 1.5, "weight": None}]}, "has a 'edges.0.from' of another type"),
        ({"edges": [{"from": True, "weight": None}]}, "has a 'edges.0.from' of another type"),
        ({"edges": None}, "has a 'edges' of another type"),
        ({"ends": {"a": 3}}, "has a 'ends.a' that is no mapping"),
        ({"size": [1, 2.0, 3.0]}, "has 3 entries in 'size', not 2"),
        ({"seeds": [1.5]}, "has a 'seeds.0' of another type"),
        ({"score": "high"}, "has a 'score' of another type"),
    ],
)
def test_what_is_no_such_dataclass_is_refused_by_both_readers(change, says):
    with pytest.raises(UserError) as error:
        from_json(Graph, CONTENT | change)
    assert says in str(error.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(CONTENT | change, json_schema(Graph))


def test_whole_numbers_stand_for_floats_and_the_schema_agrees():
    content = CONTENT | {"size": [3, 4]}
    read = from_json(Graph, content)
    assert read == GRAPH
    assert type(read.size[1]) is float
    jsonschema.validate(content, json_schema(Graph))


def test_a_study_comes_back_as_it_was():
    summary = make_study(groups=LONG, diverged=("ulp",), records=5).summary
    assert from_json(StudySummary, to_json(summary)) == summary
