"""The one exception that every stage raises for a user's mistake or a broken input.

It stands in the lowest package so that all others may raise it. The command line prints it as one sentence,
the endpoint maps it to a JSON error; anything else that escapes is a bug of ours.
"""


class MoedgeError(Exception):
    """What is wrong, which thing, and what to do about it, in one sentence."""
