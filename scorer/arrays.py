"""Names for the arrays that many modules pass around; their shapes stand where they are used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Codes = npt.NDArray[np.integer]
"""Places in a list of names."""

Hashes = npt.NDArray[np.uint64]
"""What stands for ids, see ``scorer.inputs.corpus.id_hash``."""

Numbers = npt.NDArray[np.number]
"""Scores of either precision, a judge's integers among them."""

Ends = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]
"""Where records of a source end (N,), in order, which of them count (N,), as empty lines do not, and how many lines or
rows there are up to there (N,), counted from where the one before ended."""
