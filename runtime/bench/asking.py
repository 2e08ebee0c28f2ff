"""What is asked of `moedge bench`, read and fitted to what the bundle's context holds.

Nothing is dropped in silence.
"""

from moedge.devices.errors import MoedgeError
from moedge.runtime.bench.results import Question
from moedge.runtime.manifest import Manifest


def parse_lengths(option: str, text: str, least: int) -> tuple[int, ...]:
    """Whole numbers with commas between them, each once, smallest first; MoedgeError for anything else."""
    numbers = set[int]()
    for word in text.split(","):
        try:
            number = int(word)
        except ValueError:
            raise MoedgeError(
                f"{option} {text}: {word!r} is no whole number: write lengths like {option} 128,512."
            ) from None
        refuse_below(option, number, least)
        numbers.add(number)
    return tuple(sorted(numbers))


def parse_batches(text: str, manifest: Manifest) -> tuple[int, ...]:
    """The same, none where none is written; MoedgeError too for a bundle that runs one session at a time."""
    if text and manifest.experts.plan != "native":
        raise MoedgeError(
            f"--batch {text}: {manifest.name} is a bundle of the {manifest.experts.plan} plan, which runs one session "
            "at a time: export it with `--experts native`."
        )
    return parse_lengths("--batch", text, 1) if text else ()


def refuse_below(option: str, number: int, least: int) -> None:
    """MoedgeError for a number that is too small."""
    if number < least:
        raise MoedgeError(f"{option} {number} is too small: give {least} or more.")


def fit(
    prompts: tuple[int, ...],
    steps: int,
    depths: tuple[int, ...],
    rounds: int,
    context: int,
    batches: tuple[int, ...] = (),
) -> Question:
    """The question as far as `context` tokens hold it, with a sentence for all that they do not.

    A depth that leaves no room for the steps becomes the deepest that does. MoedgeError if the steps alone do not fit.
    """
    if steps >= context:
        raise MoedgeError(f"-n {steps} does not fit the bundle's context of {context} tokens: give a smaller number.")
    deepest, said, kept = context - steps, list[str](), list[int]()
    for depth in depths:
        if depth <= deepest:
            kept.append(depth)
            continue
        instead = "" if deepest in kept else f", so it is {deepest}"
        said.append(f"depth {depth} and {steps} tokens exceed the bundle's context of {context}{instead}")
        kept += [] if deepest in kept else [deepest]
    said += [f"a prompt of {each} exceeds the bundle's context of {context}" for each in prompts if each > context]
    fitting = tuple(each for each in prompts if each <= context)
    if not fitting:
        raise MoedgeError(f"no prompt of -p fits the bundle's context of {context} tokens: give a shorter one.")
    return Question(fitting, steps, tuple(kept), rounds, batches, tuple(said))
