"""Small ONNX graphs as bytes, so that operators can be measured where the package onnx is not installed.

It writes what these graphs need of onnx.proto and nothing else. Weights are external data by name: whoever opens the
graph gives onnxruntime the arrays. Field numbers are those of onnx.proto.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 10
OPSETS = {"": 21, "moedge": 1, "com.microsoft": 1}  # domain to version
TYPES = {"float32": 1, "uint8": 2, "int64": 7}  # TensorProto.DataType
_FLOAT, _INT, _STRING = 1, 2, 3  # AttributeProto.AttributeType
_EXTERNAL = 1  # TensorProto.DataLocation
# Where constants are said to lie. onnxruntime asks that the file is there, and reads the arrays that it is given.
PLACE = Path(__file__)
Attribute = int | float | str


@dataclass(frozen=True)
class Node:
    """One operator; an input that is absent is "", and so may an output be."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class WrittenGraph:
    """A graph: names of inputs to types, constants that are given at load, nodes in their order, names of outputs."""

    inputs: Mapping[str, str]
    constants: Mapping[str, NDArray[Any]]
    nodes: Sequence[Node]
    outputs: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """A serialized ModelProto."""
        graph = b"".join(_message(1, _node(node)) for node in self.nodes) + _text(2, "probe")
        graph += b"".join(_message(5, _constant(name, array)) for name, array in self.constants.items())
        graph += b"".join(_message(11, _value(name, kind)) for name, kind in self.inputs.items())
        graph += b"".join(_message(12, _value(name, kind)) for name, kind in self.outputs.items())
        opsets = (_message(8, _text(1, domain) + _number(2, version)) for domain, version in OPSETS.items())
        return _number(1, IR_VERSION) + _message(7, graph) + b"".join(opsets)


def _node(node: Node) -> bytes:
    parts = [_text(1, name) for name in node.inputs] + [_text(2, name) for name in node.outputs]
    parts += [_text(3, node.outputs[0]), _text(4, node.kind)]
    parts += [_message(5, _attribute(name, value)) for name, value in node.attributes.items()]
    return b"".join(parts) + _text(7, node.domain)


def _attribute(name: str, value: Attribute) -> bytes:
    match value:
        case float():
            return _text(1, name) + _key(2, 5) + struct.pack("<f", value) + _number(20, _FLOAT)
        case int():
            return _text(1, name) + _number(3, value) + _number(20, _INT)
    return _text(1, name) + _text(4, value) + _number(20, _STRING)


def _constant(name: str, array: NDArray[Any]) -> bytes:
    """A TensorProto whose bytes are elsewhere."""
    dims = b"".join(_number(1, size) for size in array.shape)
    where = _message(13, _text(1, "location") + _text(2, PLACE.name))
    return dims + _number(2, TYPES[np.dtype(array.dtype).name]) + _text(8, name) + where + _number(14, _EXTERNAL)


def _value(name: str, kind: str) -> bytes:
    """A ValueInfoProto of a tensor of any shape."""
    return _text(1, name) + _message(2, _message(1, _number(1, TYPES[kind])))


def _number(key: int, value: int) -> bytes:
    return _key(key, 0) + _varint(value)


def _text(key: int, text: str) -> bytes:
    return _message(key, text.encode())


def _message(key: int, content: bytes) -> bytes:
    return _key(key, 2) + _varint(len(content)) + content


def _key(key: int, wire: int) -> bytes:
    return _varint(key << 3 | wire)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
