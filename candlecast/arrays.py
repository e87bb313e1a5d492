"""Types of NumPy arrays, and windows of them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_Value = TypeVar("_Value", bound=np.generic)


def windows(values: NDArray[_Value], length: int) -> NDArray[_Value]:
    """View all windows of `length` values, shape (..., n - length + 1, length), oldest value first."""
    values = np.ascontiguousarray(values)
    *histories, count = values.shape
    return np.ndarray(  # as `sliding_window_view`, in a tenth of the time
        (*histories, count - length + 1, length), values.dtype, values, 0, (*values.strides, values.itemsize)
    )
