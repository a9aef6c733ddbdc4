"""The handwritten digits that ship with the package."""

import gzip
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from fgrad.core.static import flag


def load_digits(normalize: bool = True) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """1,797 real handwritten digits of 8×8 pixels with 17 grey levels.

    Returns:
        ``(images, labels)``: float32 ``[1797, 8, 8, 1]`` (N, H, W, C) and int32 ``[1797]`` with values 0 to 9.
        Images lie in [0, 1] (pixel / 16); with ``normalize=False`` they keep the file's levels 0 to 16.

    Source: the test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, 1998, UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49, licensed CC BY 4.0. See ``README.md`` beside this file.

    >>> images, labels = load_digits()
    >>> images.shape, images.dtype.name, float(images.max())
    ((1797, 8, 8, 1), 'float32', 1.0)
    >>> labels[:4].tolist()
    [0, 1, 2, 3]
    """
    packed = (files(__package__) / "digits.csv.gz").read_bytes()
    # 65 columns: the pixels row by row, then the label.
    table = np.loadtxt(gzip.decompress(packed).decode("ascii").splitlines(), delimiter=",", dtype=np.int32)
    images = table[:, :64].astype(np.float32).reshape(-1, 8, 8, 1)
    if flag("load_digits", "normalize", normalize):
        images /= 16
    return images, table[:, 64].copy()
