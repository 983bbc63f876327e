"""What bounds may cost beside plain re-scoring: work by counts and memory by bytes, never a clock.

The unit is one multiplication of a product over many candidates at once. A pass over rows is
slower than its products: its memory is read for few of them.
Shape letters: N rows, V validation examples, C classes, H embedding width, q basis width.
"""

from __future__ import annotations

from torch import Tensor

from raysubset.core.factors import TILE_ROWS, GradientFactors
from raysubset.core.kernel_columns import AHEAD

BASIS = 76
"""Directions that the basis may hold."""
# Setting up costs some twenty picks, and a pick some 40 small operations: below these many
# multiplications a pick, plain re-scoring is as fast.
_WORTH = {"cpu": 2e6, "cuda": 2.5e9}
_FEWEST_PICKS = 64
_COLUMN_SHARE = 1.0
"""Bytes of kept columns over those of the factors."""
WASTE = 0.3
"""Of plain re-scoring's work: what may be lost to bounds that decide nothing."""
_READ = 16
"""Units that reading one number of a row costs (measured: 4 ms for 20,000 x 512, C = 2 to 10)."""
_GATHER = 256
"""Units of gathering one number of chosen rows and making it float64."""
_FACTOR = 6
"""Units of a singular value decomposition over those of the matrix times its transpose."""
_MEMORY = 2.0
"""Extra bytes over those of the factors."""
_SMALL = 2**28
"""Extra bytes that are had in any case."""


class Allowance:
    """The work that is left to spend; below 0, plain re-scoring is the cheaper way to go on."""

    def __init__(self, factors: GradientFactors, looks: int) -> None:
        """Begin with nothing; `looks` is V."""
        rows, self._width = factors.embedding_NH.shape
        self._classes, self._looks = factors.num_classes, looks
        self.left = 0.0
        self.pick = float((rows + looks) * self._width * (self._classes + _READ))

    def grant(self, picks: int, waste: float) -> None:
        """Allow for picks to come, as a share of what they cost by plain re-scoring."""
        self.left += waste * picks * self.pick

    def over(self, rows: int, depth: int) -> None:
        """Pay for a pass over rows with numbers so deep, and C products of each."""
        self.left -= rows * depth * (self._classes + _READ)

    def columns(self, count: int) -> None:
        """Pay for kernel columns."""
        self.left -= count * self._looks * self._width

    def grown(self, rows: int, depth: int) -> None:
        """Pay for so many more coordinates of the rows."""
        self.left -= rows * self._width * (depth + _READ)

    def doubles(self, rows: int) -> None:
        """Pay for gains in float64."""
        self.left -= rows * self._width * (self._classes + _GATHER)

    def decomposition(self) -> None:
        """Pay for a direction and its singular values."""
        self.over(self._looks, self._width)
        short = min(self._classes, self._width)
        self.left -= _FACTOR * short * self._classes * self._width


def _column_bytes(factors: GradientFactors, logits_VC: Tensor) -> int:
    """Return how many bytes may go to kernel columns once the tables have theirs."""
    rows, width = factors.embedding_NH.shape
    classes, number = factors.num_classes, logits_VC.element_size()
    held = factors.residual_NC.nbytes + factors.embedding_NH.nbytes
    table = min(BASIS, width + 1)
    # The table, residuals (class-major, and once more where they change), and ten columns of one
    # number; half the rows again in an active set; a tile's products.
    numbers = rows * (1.5 * table + 2.5 * classes + 12) + 3 * classes * min(rows, TILE_ROWS)
    return int(max(_MEMORY * held, _SMALL) - numbers * number)


def is_worth(factors: GradientFactors, logits_VC: Tensor, picks: int) -> bool:
    """Return whether screening beats plain re-scoring for so many picks from these rows.

    Not where pool and validation set are of different types: plain re-scoring rounds between them.
    """
    rows, width = factors.embedding_NH.shape
    least = _WORTH.get(factors.ids_N.device.type, _WORTH["cpu"])
    many = picks >= _FEWEST_PICKS and rows * factors.num_classes * width >= least
    alike = factors.wide_type == logits_VC.dtype
    return width > 1 and many and alike and places(factors, logits_VC) >= 8 * AHEAD


def places(factors: GradientFactors, logits_VC: Tensor) -> int:
    """Return how many columns are kept: 4 to 64 misses' worth, by the factors' own bytes."""
    bytes_ = factors.residual_NC.nbytes + factors.embedding_NH.nbytes
    column = logits_VC.shape[0] * logits_VC.element_size()
    spare = _column_bytes(factors, logits_VC)
    most = min(128 * AHEAD, max(8 * AHEAD, int(_COLUMN_SHARE * bytes_ / column)))
    return min(most, spare // column)
