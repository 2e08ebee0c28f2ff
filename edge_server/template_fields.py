"""What a chat request says to the template beside its messages: how much to think, and values for its variables."""

from moedge.edge_server.fields import Fields, one_word
from moedge.edge_server.sampling_fields import MAX_TOKENS
from moedge.runtime.chat.wishes import EFFORTS, Wishes, bad_variables

# What Qwen, vLLM and llama.cpp call it.
BUDGETS = ("thinking_budget", "thinking_token_budget", "thinking_budget_tokens", "reasoning_budget")


def read_template_wishes(fields: Fields) -> Wishes:
    """The wishes of one request; ApiError 400 for a word that is none, or for variables out of bounds.

    Which variables the template reads is not known here.
    """
    said, router = fields.take("reasoning_effort"), fields.take("reasoning")
    if said is None and isinstance(router, dict):
        said = router.get("effort")
    effort = one_word(said, "reasoning_effort", EFFORTS)
    variables = fields.take("chat_template_kwargs")
    if variables is None:
        return Wishes(effort)
    if problem := bad_variables(variables):
        raise fields.bad("chat_template_kwargs", problem)
    return Wishes(effort, variables)


def read_thinking_budget(fields: Fields) -> int | None:
    """The most tokens of thinking, by whichever name; None and -1 set none."""
    values = {name: fields.integer(name, -1, MAX_TOKENS) for name in BUDGETS}
    if (router := fields.take("reasoning")) is not None:  # OpenRouter's place for effort and budget
        if not isinstance(router, dict):
            raise fields.bad("reasoning", "say it in reasoning_effort or chat_template_kwargs, or send an object")
        values["reasoning"] = _routed_budget(Fields(router, "reasoning"))
    stated = {name: value for name, value in values.items() if value is not None}
    if len(set(stated.values())) > 1:
        raise fields.bad(next(reversed(stated)), "another field gives another budget; send one of them")
    budget = next(iter(stated.values()), -1)
    return None if budget < 0 else budget


def _routed_budget(reasoning: Fields) -> int | None:
    budget = reasoning.integer("max_tokens", 0, MAX_TOKENS)
    reasoning.take("effort")  # read with the wishes
    reasoning.only("exclude", False)
    if reasoning.take("enabled") is False:
        budget = 0
    reasoning.done()
    return budget
