"""The whole description: all routes with their operations, and the schemas that they share."""

import json
from functools import cache
from importlib.metadata import version

from flask import Response

import moedge.edge_server.openapi.answer_bodies as answer_bodies
import moedge.edge_server.openapi.chat_bodies as chat_bodies
import moedge.edge_server.openapi.message_bodies as message_bodies
import moedge.edge_server.openapi.response_bodies as response_bodies
from moedge.edge_server.openapi.json_schemas import JsonSchema, any_of, reference
from moedge.edge_server.openapi.operations import JSON
from moedge.edge_server.openapi.route_table import routes


@cache
def describe_api(needs_key: bool) -> JsonSchema:
    """The description; `needs_key`: of a server that asks for one."""
    paths: JsonSchema = {}
    for path, methods in routes().items():
        parameters = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        paths[path] = {
            method.lower(): operation.described(_identifier(method, path), parameters)
            for method, operation in methods.items()
        }
    described: JsonSchema = {
        "openapi": "3.1.0",
        "info": {
            "title": "moedge",
            "version": version("moedge"),
            "description": "Mixture-of-Experts language models, in the formats of OpenAI and Anthropic.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    if needs_key:
        described["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "basic": {"type": "http", "scheme": "basic", "description": "Any name, and the key as password."},
            "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
        }
        described["security"] = [{name: []} for name in described["components"]["securitySchemes"]]
    return described


@cache
def openapi_json(needs_key: bool) -> str:
    """The text of GET /openapi.json."""
    return json.dumps(describe_api(needs_key), ensure_ascii=False, separators=(",", ":"))


def show_description(needs_key: bool) -> Response:
    """GET /openapi.json."""
    return Response(openapi_json(needs_key), mimetype=JSON)


def _identifier(method: str, path: str) -> str:
    words = [word.strip("{}").replace("-", "_").replace(".", "_") for word in path.split("/") if word]
    return "_".join([method.lower(), *(words or ["page"])])


def _schemas() -> JsonSchema:
    return {
        "Error": answer_bodies.error(),
        "AnthropicError": answer_bodies.anthropic_error(),
        "AnyError": any_of(reference("Error"), reference("AnthropicError")),
        "Usage": answer_bodies.usage(),
        "Timings": answer_bodies.timings(),
        "Model": answer_bodies.model(),
        "Message": chat_bodies.message(),
        "Tool": chat_bodies.tool(),
        "ChatRequest": chat_bodies.chat_request(),
        "ChatCompletion": answer_bodies.chat_completion(),
        "CompletionRequest": chat_bodies.completion_request(),
        "Completion": answer_bodies.completion(),
        "AnthropicBlock": message_bodies.block(),
        "AnthropicRequest": message_bodies.message_request(),
        "AnthropicMessage": message_bodies.message(),
        "ResponseItem": response_bodies.item(),
        "ResponseRequest": response_bodies.response_request(),
        "Response": response_bodies.response(),
        "Props": answer_bodies.props(),
    }
