"""The query of a request, read as strictly as a body: each parameter is one that the route knows, and stands once."""

from collections.abc import Collection, Mapping

from flask import Request

from moedge.edge_server.fields import bad_field


def read_query(request: Request, known: Collection[str], repeated: Collection[str] = ()) -> dict[str, str]:
    """The texts of a query by their names, of those that may be `repeated` the first.

    ApiError 400 for a parameter that is none of these, or that stands twice where it must not.
    """
    for name, texts in request.args.lists():
        if name not in known and name not in repeated:
            names = ", ".join((*known, *repeated))
            raise bad_field(name, f"there is no such parameter; there are {names}", code="unknown_parameter")
        if len(texts) > 1 and name not in repeated:
            raise bad_field(name, "it is there twice; send it once")
    return request.args.to_dict()


def query_count(query: Mapping[str, str], name: str, usual: int, most: int) -> int:
    """A whole number from 1 to `most`, `usual` if it is absent; ApiError 400."""
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= most):
        raise bad_field(name, f"it must be a whole number from 1 to {most}")
    return int(text)
