"""Schemas of the result files: as the dataclasses have them, and strict."""

import json

import jsonschema
import pytest

from helpers.noise_summary import make_study
from seedmap.experiments.report.result_schemas import KINDS, schema_path, schema_text
from seedmap.results import from_json, to_json


@pytest.mark.parametrize("name", KINDS)
def test_the_schemas_are_those_of_the_dataclasses(name):
    assert schema_path(name).read_text(encoding="utf-8") == schema_text(name)


@pytest.fixture
def validate():
    schema = json.loads(schema_path("noise.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema).validate


def fields(content, at=()):
    """Paths to every field of every object, through the first entry of each list."""
    if isinstance(content, dict):
        for name, entry in content.items():
            yield (*at, name)
            yield from fields(entry, (*at, name))
    elif isinstance(content, list) and content:
        yield from fields(content[-1], (*at, -1))


def short(content):
    """The same with one entry, the last, of every list of objects: validating takes long."""
    if isinstance(content, dict):
        return {name: short(entry) for name, entry in content.items()}
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return [short(content[-1])]
    return content


def test_a_missing_and_an_unknown_field_are_refused_wherever_they_are(validate):
    content = short(to_json(make_study(("init", "ulp"), groups=("a",), records=2).summary))
    validate(content)
    paths = [path for path in fields(content) if "diverged" not in path[:-1]]
    assert len(paths) > 100
    for path in paths:
        damaged = json.loads(json.dumps(content))
        parent = damaged
        for key in path[:-1]:
            parent = parent[key]
        value = parent.pop(path[-1])
        with pytest.raises(jsonschema.ValidationError):
            validate(damaged)
        with pytest.raises(ValueError, match=rf"has no .*{path[-1]}"):
            from_json(KINDS["noise.json"], damaged)
        parent[path[-1]], parent["another"] = value, 1
        with pytest.raises(jsonschema.ValidationError):
            validate(damaged)
        with pytest.raises(ValueError, match=r"unknown field .*another"):
            from_json(KINDS["noise.json"], damaged)


def test_a_field_of_another_type_is_refused(validate):
    content = to_json(make_study(("init",), records=5).summary)
    for change in ({"steps": 1.5}, {"whole": None}, {"notes": "one"}, {"control": []}):
        with pytest.raises(jsonschema.ValidationError):
            validate(content | change)
        with pytest.raises(ValueError, match=next(iter(change))):
            from_json(KINDS["noise.json"], content | change)
