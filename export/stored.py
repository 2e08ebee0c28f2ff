"""Readers of experts in one tensor: a stand-in until the formats land, replaced by them."""

from dataclasses import dataclass
import numpy as np
from moedge.export.matrices import Stored as stored  # noqa


@dataclass(frozen=True)
class Plane:
    checkpoint: object
    name: str
    expert: int
    shape: tuple
    transposed: bool

    def __post_init__(self):
        r, c = self.shape
        full = self.checkpoint.shape(self.name)
        self.checkpoint.expect(self.name, full[0], *((c, r) if self.transposed else (r, c)))

    native_block = None

    def read(self, start, stop):
        a = self.checkpoint.read_float(self.name, self.expert, self.expert + 1)[0]
        return (a.T if self.transposed else a)[start:stop]


@dataclass(frozen=True)
class Picked:
    source: object
    start: int
    stop: int
    step: int
    native_block = None

    @property
    def name(self):
        return self.source.name

    @property
    def shape(self):
        return len(range(self.start, self.stop, self.step)), self.source.shape[1]

    def read(self, a, b):
        return self.source.read(0, self.source.shape[0])[self.start : self.stop : self.step][a:b]


def plane(checkpoint, name, expert, shape, transposed=False):
    return Plane(checkpoint, name, expert, shape, transposed)


def picked(matrix, start, stop, step=1):
    return Picked(matrix, start, stop, step)
