"""Rounding by what each matrix reads: GPTQ where enough is known of it, a weighted search where little is."""

from dataclasses import dataclass, field

from moedge.export.calibration.statistics import MatrixInputs, Sample
from moedge.quant.blocks import F32, Codes
from moedge.quant.gptq_rounding import Inputs, gptq, learn_inputs
from moedge.quant.rounding import NEAREST
from moedge.quant.scheme import Scheme
from moedge.quant.search import SEARCHED, search


@dataclass
class Calibrated:
    """A rounding that a calibration tells, layer by layer, what matrices read and which factors their columns have.

    Eight bits are rounded to nearest, and so is nothing else: what was not seen is searched without weights.
    """

    name: str
    inputs: MatrixInputs | None = None
    by_column: dict[str, F32] = field(default_factory=dict)
    _learnt: tuple[Sample | None, bytes, Inputs | None] = (None, b"", None)

    def __call__(self, matrix: str, weights: F32, scheme: Scheme) -> Codes:
        """See `Rounding`."""
        if scheme.bits == 8:
            return NEAREST(matrix, weights, scheme)
        sample = None if self.inputs is None else self.inputs.sample(matrix)
        if sample is None:
            return SEARCHED(matrix, weights, scheme)
        factors = self.by_column.get(matrix)
        if sample.own and len(sample.rows) >= weights.shape[1] // 2:
            return gptq(weights, scheme, self._learn(sample, factors))
        moments = sample.moments if factors is None else sample.moments / factors**2
        return search(weights, scheme, moments)

    def _learn(self, sample: Sample, factors: F32 | None) -> Inputs:
        """What GPTQ works with, kept for the next matrix that reads the same."""
        key = b"" if factors is None else factors.tobytes()
        known, with_factors, inputs = self._learnt
        if inputs is None or known is not sample or with_factors != key:
            inputs = learn_inputs(sample.hessian(factors))
            self._learnt = sample, key, inputs
        return inputs
