"""What can be wrong with a tensor that a model's config calls for, as far as names and shapes tell."""

from moedge.devices.errors import MoedgeError


class TensorError(MoedgeError):
    """A tensor and its `fault`, a predicate without its name: a dry run collects these and tells them together."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name} {fault}: config.json and the tensors do not belong together.")
        self.name = name
        self.fault = fault


class MissingError(TensorError):
    """There is no tensor of that name, though every shard is there that should be."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "is missing")


class MisshapenError(TensorError):
    """It has the shape `there` where another is wanted: `wanted` completes the sentence."""

    def __init__(self, name: str, there: tuple[int, ...], wanted: str) -> None:
        super().__init__(name, f"has the shape {there} where {wanted}")
