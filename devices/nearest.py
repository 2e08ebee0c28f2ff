"""Which profile `auto` takes: the one that says most of this machine, and nothing that is not so."""

from collections.abc import Mapping

from moedge.devices.detect import Machine
from moedge.devices.profile_file import Match, ProfileSpec

SLACK = 1.15  # what firmware and kernel keep of the memory that is sold
_BOARD, _CORES, _OWN = 1000, 100, 10_000


def nearest(machine: Machine, specs: Mapping[str, ProfileSpec], own: frozenset[str] = frozenset()) -> str | None:
    """The name of the profile; None if there is none for the machine's architecture.

    A board's name tells most, then the CPU's, then instruction sets. Of the same board with several sizes of memory it
    is the largest that the machine has, or the smallest there is. The user's `own` profiles come first.
    """
    found = [
        (points + _OWN * (name in own), *_memory(spec, machine), name)
        for name, spec in specs.items()
        if spec.architecture == machine.architecture and (points := _points(spec.match, machine)) is not None
    ]
    return max(found)[-1] if found else None


def _points(match: Match, machine: Machine) -> int | None:
    """How much of the machine these words tell; None if one of them is not so."""
    if match.system and match.system != machine.system:
        return None
    if not set(match.isa) <= set(machine.isa):
        return None
    points = len(match.isa) + bool(match.system)
    if match.board and machine.board:
        if not _any_in(match.board, f"{machine.board} {machine.compatible}"):
            return None
        points += _BOARD
    elif match.board and not match.cores:
        return None
    if match.cores and not (match.board and machine.board):  # the board tells all
        if not any(_same_kinds(kinds, machine.cpu) for kinds in match.cores):
            return None
        points += _CORES
    return points


def _same_kinds(stated: str, cpu: str) -> bool:
    """Whether a CPU of "one + another" kind of core has these and no others, each known by a part of its name."""
    wanted, found = stated.lower().split(" + "), cpu.lower().split(" + ")
    pairs = [(word, name) for word in wanted for name in found if word in name]
    return {word for word, _ in pairs} == {*wanted} and {name for _, name in pairs} == {*found}


def _any_in(words: tuple[str, ...], text: str) -> bool:
    return any(word.lower() in text.lower() for word in words)


def _memory(spec: ProfileSpec, machine: Machine) -> tuple[bool, int]:
    """Larger is nearer: what fits before what does not."""
    memory = spec.hardware.memory_bytes.value if spec.hardware.memory_bytes else 0
    fits = memory <= SLACK * machine.memory_bytes
    return fits, memory if fits else -memory
