"""The one refusal of a prompt that the model's context cannot hold, wherever that is found out."""

from moedge.devices.errors import MoedgeError


class PromptTooLong(MoedgeError):  # noqa: N818 - it names what is wrong
    """`has` says how long the prompt is, as far as anybody counted: "5000 tokens"; `context` is in tokens."""

    def __init__(self, has: str, context: int | None = None) -> None:
        holds = "" if context is None else f", the context is {context}"
        super().__init__(f"the prompt has {has}{holds}: shorten it.")
        self.has = has
