"""What form an answer's content is asked to have: `response_format` of a chat, as JSON schemas."""

import json

from moedge.edge_server.fields import Fields, bad_field

ANY_OBJECT = json.dumps({"type": "object"})


def read_response_format(fields: Fields) -> str | None:
    """The JSON schema, as text, that the content must be of; None for free text. ApiError 400 for another form."""
    value = fields.take("response_format")
    if value is None:
        return None
    form = Fields(value, "response_format")
    kind, schema = form.take("type"), None
    if kind == "json_object":
        schema = ANY_OBJECT
        given = form.take("schema")  # llama.cpp's and Together's place for one
        if given is not None:
            schema = _schema(given, form.path("schema"))
    elif kind == "json_schema":
        described = Fields(form.take("json_schema"), form.path("json_schema"))
        schema = _schema(described.take("schema"), described.path("schema"))
        described.ignore(("name", "description", "strict"))  # it is kept to the letter whatever `strict` says
        described.done()
    elif kind != "text":
        reason = "it must be text, json_object or json_schema"
        raise bad_field(form.path("type"), reason, code="unsupported_parameter")
    form.done()
    return schema


def _schema(value: object, where: str) -> str:
    if not isinstance(value, dict):
        raise bad_field(where, "it must be a JSON schema, which is an object")
    return json.dumps(value)
