"""Whether a file that a command has written is of the schema of its kind."""

import json

import jsonschema

from seedmap.experiments.report.result_schemas import schema_path


def assert_of_schema(path):
    """The file holds every field of its schema and none more, all of the right types."""
    schema = json.loads(schema_path(path.name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), schema)
