"""How tests ask for prompts that begin alike, over an engine whose answers say which tokens it has seen."""

from scheduling import text_of, wait_for

from moedge.runtime.sampling import SamplingParams

ONE = SamplingParams(max_tokens=1)
SYSTEM = list(range(1000, 1300))  # 300 tokens that many prompts begin with
CHATS = [[*SYSTEM, *range(2000 + 100 * n, 2080 + 100 * n)] for n in range(8)]


def echo(prompt):
    """A script of the engine that says which tokens it has seen: a wrong one changes the answer."""
    return [f"{len(prompt)}:{sum(map(ord, prompt)) % 9973};"] * 400


def right(prompt, answers=1):
    return echo("".join(map(chr, prompt)))[0] * answers


def ask(scheduler, prompt, owner="", params=ONE):
    """The tokens of the prompt that were not read again; the answer is right, and all is kept that is to be kept."""
    ticket = scheduler.submit(prompt, params, owner)
    assert text_of(ticket) == right(prompt, params.max_tokens)
    wait_for(lambda: scheduler.idle and not scheduler._timelines.untidy)
    return ticket.cached_tokens


def read(engine):
    """How many tokens were run so far."""
    return sum(sum(run.values()) for run in engine.runs)
