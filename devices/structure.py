"""JSON and TOML to frozen dataclasses and back: unknown keys and missing keys are errors in one sentence.

Values are not converted: `cores = 2.5`, `cores = "4"` and `cores = true` are all refused where a count belongs. The
one exception is a whole number where a float belongs, since JSON does not tell 1 from 1.0.
"""

from typing import Any, TypeVar, get_args, get_origin

import cattrs
from cattrs.errors import ClassValidationError

from moedge.devices.errors import MoedgeError

T = TypeVar("T")

_converter = cattrs.Converter(forbid_extra_keys=True)


class _WrongTypeError(TypeError):
    """A value of another type than the field's; its text stands in the sentence as it is."""


def _scalar(value: object, kind: type) -> object:
    if type(value) is int and kind is float:
        return float(value)
    if type(value) is not kind:
        raise _WrongTypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _is_list_of_one_kind(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[1:] == (...,)


def _tuple(value: object, kind: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):  # a string would otherwise become a tuple of its letters
        raise _WrongTypeError(f"{value!r} is not a list")
    return tuple(_converter.structure(item, get_args(kind)[0]) for item in value)


for _kind in (int, float, str, bool):
    _converter.register_structure_hook(_kind, _scalar)
_converter.register_structure_hook_func(_is_list_of_one_kind, _tuple)


def structure(data: object, cls: type[T], source: str) -> T:
    """Build `cls` from plain data read from `source`; raise MoedgeError that names the key that does not fit."""
    if not isinstance(data, dict):
        raise MoedgeError(f"{source} does not fit {cls.__name__}: it holds no keys and values.")
    try:
        return _converter.structure(data, cls)
    except ClassValidationError as error:
        reasons = "; ".join(cattrs.transform_error(error, format_exception=_reason))
        raise MoedgeError(f"{source} does not fit {cls.__name__}: {reasons}.") from error
    except Exception as error:
        raise MoedgeError(f"{source} does not fit {cls.__name__}: {error}.") from error


def _reason(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, _WrongTypeError) else cattrs.v.format_exception(error, kind)


def unstructure(value: object) -> Any:
    """The plain data of a dataclass, ready for JSON."""
    return _converter.unstructure(value)
