"""GPTQ (Frantar et al. 2022): columns are rounded in turn, and those still to come make up for each one's error.

What counts is the error of the product over real inputs x: `hessian` is the mean of x·xᵀ [K, K]. Columns go by how
large their inputs are, inside grids that were found before; in the end each row's scales are fitted once more.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moedge.quant.blocks import F32, Codes, hold_scales
from moedge.quant.scheme import SCALE_BYTES, Scheme
from moedge.quant.search import Grids, encode, find_grids, split

DAMPING = 0.1  # of the mean diagonal
_RIDGE = 1e-4
_SMALL = 128  # a triangle of which LAPACK finds the inverse
_OUTER, _INNER = 128, 8  # columns whose errors are spread at once, over all others and among themselves


@dataclass(frozen=True)
class Inputs:
    """What GPTQ knows of a matrix's inputs: their damped second moments, and the factor that it works with.

    `factor` [K, K], upper: the Cholesky factor of the moments' inverse, rows and columns in `order`.
    """

    moments: F32
    order: NDArray[np.int64]
    factor: F32

    @property
    def importance(self) -> F32:
        """How much an error in each column costs that the others cannot make up for, [K]."""
        importance = np.empty(len(self.order), np.float32)
        importance[self.order] = np.diagonal(self.factor) ** -2
        return importance


def learn_inputs(hessian: F32, damping: float = DAMPING) -> Inputs:
    """The mean of x·xᵀ [K, K], made ready; ValueError if it is not finite."""
    if not np.isfinite(hessian).all():
        raise ValueError("activations hold NaN or infinity")
    moments = hessian.astype(np.float64)
    diagonal = np.einsum("ii->i", moments)
    diagonal += damping * diagonal.mean() + 1e-12
    order = np.argsort(-diagonal, kind="stable")
    backwards = order[::-1]
    # moments = upper · upperᵀ, so that their inverse is factorᵀ · factor for the inverse of `upper`
    upper = np.linalg.cholesky(moments[np.ix_(backwards, backwards)])[::-1, ::-1]
    return Inputs(moments.astype(np.float32), order, _invert_upper(upper).astype(np.float32))


def _invert_upper(matrix: NDArray[Any]) -> NDArray[Any]:
    """The inverse of an upper triangular matrix, halves by products: a quarter of the work of a general one."""
    size = len(matrix)
    if size <= _SMALL:
        return np.triu(np.linalg.inv(matrix))
    half = size // 2
    inverse = np.zeros_like(matrix)
    first, last = _invert_upper(matrix[:half, :half]), _invert_upper(matrix[half:, half:])
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[:half, half:] = -first @ matrix[:half, half:] @ last
    return inverse


def gptq(weights: F32, scheme: Scheme, inputs: Inputs) -> Codes:
    """Codes of rows [N, K] in a scheme of fewer than 8 bits; ValueError if a weight is NaN or infinite."""
    blocks = split(weights, scheme)
    grids = find_grids(blocks, split(inputs.importance[None], scheme)[0], scheme)
    if scheme.scales == "float8":
        grids.scales = hold_scales(grids.scales, scheme.scales)
    codes = _round_in_turn(weights, scheme.block, grids, inputs)
    if SCALE_BYTES[scheme.scales] > 1:  # those of a byte are too coarse to be fitted once codes are known
        fitted = _fit_scales(weights, codes, scheme.block, grids.scales, inputs.moments)
        grids.scales = hold_scales(fitted, scheme.scales)
    return encode(split(codes, scheme), grids, scheme)


def _round_in_turn(weights: F32, block: int, grids: Grids, inputs: Inputs) -> F32:
    """Codes less their zero points, or four-bit floats, [N, K]."""
    (rows, columns), order, factor = weights.shape, inputs.order, inputs.factor
    left = np.ascontiguousarray(weights.T[order])  # [K, N]: a column of the matrix is a row here
    scales, zeros = (np.ascontiguousarray(a.T) for a in (grids.scales, grids.zeros))  # [K / B, N]
    steps = 1 / scales
    codes = np.empty_like(left)
    errors = np.empty((_OUTER, rows), np.float32)
    spread = np.empty((_INNER, rows), np.float32)
    for outer in range(0, columns, _OUTER):
        stop = min(outer + _OUTER, columns)
        for inner in range(outer, stop, _INNER):
            end = min(inner + _INNER, stop)
            for i in range(inner, end):
                column, group = left[i], order[i] // block
                code, error = codes[order[i]], errors[i - outer]
                np.multiply(column, steps[group], out=code)
                grids.round(code, zeros[group])
                np.multiply(code, scales[group], out=error)
                np.subtract(column, error, out=error)
                error *= 1 / factor[i, i]
                if i + 1 < end:
                    np.multiply(factor[i, i + 1 : end, None], error, out=spread[: end - i - 1])
                    left[i + 1 : end] -= spread[: end - i - 1]
            if end < stop:
                left[end:stop] -= factor[inner:end, end:stop].T @ errors[inner - outer : end - outer]
        if stop < columns:
            left[stop:] -= factor[outer:stop, stop:].T @ errors[: stop - outer]
    return np.ascontiguousarray(codes.T)


def _fit_scales(weights: F32, codes: F32, block: int, scales: F32, moments: F32) -> F32:
    """Each row's scales [N, K / B] that bring its codes' product nearest to its weights'; the given ones if none do."""
    rows, columns = weights.shape
    count = columns // block
    parts = codes.reshape(rows, count, block)
    wanted = np.einsum("ngb,ngb->ng", parts, (weights @ moments).reshape(rows, count, block))
    square = np.empty((rows, count, count), np.float32)
    for i in range(count):
        product = codes[:, i * block : (i + 1) * block] @ moments[i * block : (i + 1) * block]  # [N, K]
        square[:, i] = np.einsum("ngb,ngb->ng", product.reshape(rows, count, block), parts)
    ridge = _RIDGE * np.einsum("nii->n", square)[:, None] / count + np.float32(1e-12)
    np.einsum("nii->ni", square)[:] += ridge
    fitted = np.linalg.solve(square, (wanted + ridge * scales)[..., None])[..., 0]
    usable = np.isfinite(fitted) & (fitted != 0)
    return np.where(usable, fitted, scales).astype(np.float32)
