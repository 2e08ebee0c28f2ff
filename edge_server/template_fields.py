"""What a chat request says to the template beside its messages: how much to think, and values for its variables."""

from moedge.edge_server.fields import Fields
from moedge.runtime.chat.wishes import EFFORTS, Wishes, bad_variables


def read_template_wishes(fields: Fields) -> Wishes:
    """The wishes of one request; ApiError 400 for a word that is none, or for variables out of bounds.

    Which variables the template reads is not known here.
    """
    said = fields.take("reasoning_effort")
    effort = next((word for word in EFFORTS if word == said), None)
    if effort is None and said is not None:
        raise fields.bad("reasoning_effort", f"it must be one of {', '.join(EFFORTS)}")
    variables = fields.take("chat_template_kwargs")
    if variables is None:
        return Wishes(effort)
    if problem := bad_variables(variables):
        raise fields.bad("chat_template_kwargs", problem)
    return Wishes(effort, variables)
