"""Bundles as an attacker would make them: files changed here and there, and every hash made anew.

A mutation is a seed: the same one changes the same file in the same way. `mutated_child.py` tries them.
"""

import copy
import hashlib
import json
import random
import shutil
from pathlib import Path

import onnx

from moedge.runtime.manifest import MANIFEST_NAME, MODEL_NAME

# What breaks readers: numbers at their ends, depth, lengths, other types, letters of other planes.
NUMBERS = (-1, 0, 1, 2**31, 2**32 - 1, 2**53 + 1, 2**63, 2**64, 10**30, -(2**63), 1e308, 0.5)
VALUES = (
    None,
    True,
    "",
    "x" * 5000,
    [],
    {},
    [[]],
    "\u0000",
    "𝔵",
    "../../etc/passwd",
    "(a+)+$",
    "{{ 9**9**9 }}",
    *NUMBERS,
)
PIECES = (
    *("{{ ''.__class__ }}", "{% for i in range(10**9) %}", "{% endfor %}", "{% if %}", "{{", "}}", "{%", "%}", "{#"),
    *("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "|tojson", "|join", "*10**9", "**99", "'%999999999d'%1"),
    *(
        "{% include '/etc/passwd' %}",
        "\ud7ff",
        "\u0000",
        "messages",
        "[0]",
        "['content']",
        ".append(1)",
        "()",
        "((" * 200,
    ),
)


def copy_bundle(bundle: Path, to: Path) -> Path:
    """A copy of its own at `to`, where nothing may be."""
    return Path(shutil.copytree(bundle, to))


def seal(bundle: Path) -> None:
    """Make sizes and hashes of a changed bundle right again, the manifest's own too."""
    path = bundle / MANIFEST_NAME
    data = json.loads(path.read_bytes())
    for name in data["files"] if isinstance(data.get("files"), dict) else ():
        if (bundle / name).is_file():
            content = (bundle / name).read_bytes()
            data["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_bytes(sealed(data))


def sealed(data: dict) -> bytes:
    """The text of a manifest whose own hash is right."""
    data = {name: value for name, value in data.items() if name != "sha256"}
    digest = hashlib.sha256(_text(data)).hexdigest()
    return _text({**data, "sha256": digest})


def _text(data: dict) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def mutate(content: bytes, name: str, seed: int) -> bytes:
    """What a file of that name becomes: JSON by its values or its bytes, a template by its pieces, others by bytes."""
    rng = random.Random(f"{name} {seed}")
    if name.endswith(".json") and rng.random() < 0.8:
        data = json.loads(content)
        for _ in range(rng.choice((1, 1, 2, 5))):
            data = _mutate_value(data, rng)
        if name == MANIFEST_NAME:
            return sealed(data) if isinstance(data, dict) else json.dumps(data).encode()
        return json.dumps(data).encode("utf-8", "surrogatepass")
    if name.endswith(".jinja") and rng.random() < 0.8:
        return _mutate_text(content.decode(), rng).encode("utf-8", "surrogatepass")
    if name == MODEL_NAME and rng.random() < 0.7:
        model = onnx.load_from_string(content)
        for _ in range(rng.choice((1, 1, 2))):
            _mutate_graph(model.graph, rng)
        return model.SerializeToString()
    return _mutate_bytes(content, rng)


def _mutate_graph(graph: onnx.GraphProto, rng: random.Random) -> None:
    """One thing of a graph that still is one: what a node says, reads or is, or how large a tensor lies where."""
    node = rng.choice(graph.node)
    action = rng.random()
    if action < 0.35 and node.attribute:
        attribute = rng.choice(node.attribute)
        if attribute.type == onnx.AttributeProto.INT:
            attribute.i = rng.choice((-1, 0, 1, attribute.i + 1, 2 * attribute.i, 2**31, 2**62, -(2**63)))
        elif attribute.type == onnx.AttributeProto.FLOAT:
            attribute.f = rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
        elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice((-1, 0, 2**31, 2**62))
        elif attribute.type == onnx.AttributeProto.STRING:
            attribute.s = rng.choice((b"", b"x" * 70_000, b"../../etc/passwd", b"\xff"))
    elif action < 0.5 and node.input:
        at = rng.randrange(len(node.input))
        node.input[at] = rng.choice(("", "nothing", *rng.choice(graph.node).output, *rng.choice(graph.node).input))
    elif action < 0.6:
        other = rng.choice(graph.node)
        node.op_type, node.domain = other.op_type, other.domain
    elif action < 0.65:
        graph.node.remove(node)
    elif graph.initializer:
        _mutate_tensor(rng.choice(graph.initializer), rng)


def _mutate_tensor(tensor: onnx.TensorProto, rng: random.Random) -> None:
    if tensor.external_data and rng.random() < 0.6:
        entry = rng.choice(tensor.external_data)
        wrong = ("-1", "0", "1", "4096", "999999999999", str(2**63 - 1), str(2**64), "", "x")
        places = ("../outside", "/etc/passwd", "manifest.json", "", "x" * 5000, "weights.bin/../../x")
        entry.value = rng.choice(places if entry.key == "location" else wrong)
    elif tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((-1, 0, 1, 2, 2**20, 2**31, 2**40, 2**62))
    else:
        tensor.data_type = rng.choice((0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 16, 17, 22, 99))


def _mutate_value(data: object, rng: random.Random) -> object:
    """One value somewhere inside replaced, removed, doubled, or buried, at any depth alike."""
    node, key = None, None
    inner = data
    while isinstance(inner, dict | list) and inner and (node is None or rng.random() < 0.7):
        node, key = inner, rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        inner = node[key]
    if node is None or rng.random() < 0.01:
        return copy.deepcopy(rng.choice(VALUES))
    action = rng.random()
    if action < 0.6:
        node[key] = copy.deepcopy(rng.choice(VALUES))
    elif action < 0.75:
        del node[key]
    elif action < 0.9:
        value = node[key]
        for _ in range(rng.choice((1, 3, 300))):
            value = [value]
        node[key] = value
    elif isinstance(node, dict):
        node[rng.choice(("type", "id", "size", "x", "special"))] = copy.deepcopy(rng.choice(VALUES))
    else:
        node.extend([node[key]] * rng.choice((1, 1000)))
    return data


def _mutate_text(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 2, 4))):
        at, other = rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)
        action = rng.random()
        if action < 0.5:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif action < 0.75:
            text = text[:at] + text[at + rng.randint(1, 20) :]
        else:
            text = text[:at] + text[other : other + 40] * rng.choice((1, 2, 50)) + text[at:]
    return text


def _mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data)) if data else 0
        action = rng.random()
        if action < 0.5 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif action < 0.7 and data:
            data[at] = rng.choice((0, 0x7F, 0x80, 0xFF))
        elif action < 0.85:
            del data[at : at + rng.choice((1, 4, 100))]
        else:
            data[at:at] = data[at : at + rng.choice((1, 8, 64))]
    return bytes(data)
