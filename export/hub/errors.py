"""What can go wrong between here and the hub, as one sentence with what to do.

It knows the library's exceptions; what is asked of the hub is in fetch.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
    SafetensorsParsingError,
)

from moedge.devices.errors import MoedgeError


@contextmanager
def explain_failures(name: str) -> Iterator[None]:
    """Turn what the library raises about the model `name` into MoedgeError; a full disk stays an OSError."""
    try:
        yield
    except MoedgeError:
        raise  # ours, and a sentence already
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's: no space, no permission
        raise MoedgeError(sentence(name, error)) from error


def sentence(name: str, error: Exception) -> str:
    """What is wrong with `name`, and what to do about it."""
    if isinstance(error.__cause__, HfHubHTTPError):  # it did answer, and the library has looked into its cache since
        return sentence(name, error.__cause__)
    match error:
        case GatedRepoError():
            return f"{name} is gated: accept its conditions on its page, and set HF_TOKEN to a token of that account."
        case RepositoryNotFoundError():
            return f"the hub shows no model {name} {_to_whom()}"
        case RevisionNotFoundError():
            return f"{name} names no branch, tag or commit that there is: look for one on the model's page."
        case RevisionResolutionError() | LocalEntryNotFoundError() | OfflineModeIsEnabled():
            return _not_here(name)
        case EntryNotFoundError():
            return f"the hub lists a file of {name} that it does not hand out: try again later."
        case SafetensorsParsingError():
            return f"{name} holds weights that are not safetensors ({_first_line(error)}): do not use this checkpoint."
        case HfHubHTTPError():
            return _explain_refusal(name, error.response.status_code)
    return f"the download of {name} broke off ({_first_line(error)}): run it again, files that are complete are kept."


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


def _to_whom() -> str:
    if get_token() is None:
        return "to those without a token: check the name, or set HF_TOKEN if it is private."
    return "to the owner of this HF_TOKEN: check the name, or take a token that may read it."


def _not_here(name: str) -> str:
    if constants.HF_HUB_OFFLINE:
        return (
            f"{name} is not completely in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids to fetch "
            "it: unset it, or set HF_HOME to where it is."
        )
    return (
        f"the hub ({constants.ENDPOINT}) cannot be reached, and {name} is not completely in the cache "
        f"({constants.HF_HUB_CACHE}): check the network, or set HF_HOME to where it is."
    )


def _explain_refusal(name: str, status: int) -> str:
    if status in (401, 403):
        return f"the hub refuses {name} to this HF_TOKEN ({status}): take a valid one that may read it."
    if status == 429:
        return f"the hub has had too many requests from here ({status}) to give {name}: try again in some minutes."
    return f"the hub answers {status} when asked for {name}: try again later."
