"""JSON and TOML to frozen dataclasses and back: unknown keys and missing keys are errors in one sentence."""

from typing import Any, TypeVar

import cattrs
from cattrs.errors import ClassValidationError

from moedge.devices.errors import MoedgeError

T = TypeVar("T")

_converter = cattrs.Converter(forbid_extra_keys=True)


def structure(data: object, cls: type[T], source: str) -> T:
    """Build `cls` from plain data read from `source`; raise MoedgeError that names the key that does not fit."""
    try:
        return _converter.structure(data, cls)
    except ClassValidationError as error:
        reasons = "; ".join(cattrs.transform_error(error))
        raise MoedgeError(f"{source} does not fit {cls.__name__}: {reasons}.") from error
    except Exception as error:
        raise MoedgeError(f"{source} does not fit {cls.__name__}: {error}.") from error


def unstructure(value: object) -> Any:
    """The plain data of a dataclass, ready for JSON."""
    return _converter.unstructure(value)
