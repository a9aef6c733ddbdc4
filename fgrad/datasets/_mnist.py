"""MNIST, and any other set in its IDX format.

An IDX file is: two zero bytes, a type code, the number of dimensions d, d big-endian uint32 sizes, the elements.
"""

import gzip
import math
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgrad.core.static import flag, kind

IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Mnist(NamedTuple):
    """Images float32 ``[N, 28, 28, 1]``, labels int32 ``[N]``; N is 60,000 for training and 10,000 for testing."""

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int32]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int32]


def load_mnist(data_dir: str | os.PathLike[str], normalize: bool = True) -> Mnist:
    """MNIST (or a set of the same form, such as Fashion-MNIST) from the four IDX files in ``data_dir``.

    Each file may be gzipped or not, and be named ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``.

    Returns:
        ``Mnist``, a tuple ``(train_images, train_labels, test_images, test_labels)``: float32 ``[N, H, W, 1]`` in
        [0, 1] (pixel / 255; with ``normalize=False`` 0 to 255) and int32 ``[N]``.

    Raises:
        FileNotFoundError: a file is missing; the message lists the names looked for and the folder.
        ValueError: a file is not IDX, is truncated or has bytes left over, or images and labels differ in number.

    >>> load_mnist("no/such/folder")
    Traceback (most recent call last):
        ...
    FileNotFoundError: load_mnist: found no train-images file in no/such/folder. Looked for ...
    """
    normalize = flag("load_mnist", "normalize", normalize)
    parts: list[Any] = []
    for part in ("train", "t10k"):
        image_file, images = _read_part(data_dir, part, "images", ndim=3)
        label_file, labels = _read_part(data_dir, part, "labels", ndim=1)
        if len(images) != len(labels):
            raise ValueError(
                f"load_mnist: images and labels must be equally many, got {len(images)} images in {image_file} "
                f"and {len(labels)} labels in {label_file}. Use files of one set."
            )
        pixels = images.astype(np.float32)[..., np.newaxis]
        if normalize:
            pixels /= 255
        parts += [pixels, labels.astype(np.int32)]
    return Mnist(*parts)


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in one IDX file, in the machine's byte order; a gzipped file is told by its first two bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not IDX, or its length is not the one that its header promises.

    >>> import os, struct, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "x.idx")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(struct.pack(">BBBBII", 0, 0, 0x08, 2, 2, 3) + bytes(range(6)))
    ...     read_idx(path)
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """
    data = _path("read_idx", path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError) as error:
            raise ValueError(
                f"read_idx: {path} must be a whole gzip file, got {len(data)} bytes ({error}). Fetch the file again."
            ) from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_DTYPES:
        codes = ", ".join(f"{code:#04x}" for code in IDX_DTYPES)
        raise ValueError(
            f"read_idx: {path} must start with 00 00 and a type code of {{{codes}}}, got "
            f"{data[:4].hex(' ') or 'an empty file'}. Pass a file in IDX format, gzipped or not."
        )
    ndim = data[3]
    header = 4 + 4 * ndim
    if len(data) < header:
        raise ValueError(
            f"read_idx: {path} must hold a header of {header} bytes for {ndim} dimensions, got {len(data)} bytes in "
            "all. Fetch the file again."
        )
    shape = struct.unpack(f">{ndim}I", data[4:header])
    dtype = np.dtype(IDX_DTYPES[data[2]])
    wanted = header + math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise ValueError(
            f"read_idx: {path} must hold {wanted} bytes, got {len(data)} (header {header} + "
            f"{' × '.join(map(str, shape)) or '1'} elements of {dtype.itemsize}). Fetch the file again."
        )
    return np.frombuffer(data, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


def _read_part(data_dir: str | os.PathLike[str], part: str, kind: str, ndim: int) -> tuple[Path, NDArray[Any]]:
    path = _find(_path("load_mnist", data_dir), f"{part}-{kind}", ndim)
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != ndim:
        raise ValueError(
            f"load_mnist: {kind} must be uint8 of {ndim} dimensions, got {array.dtype.name} of shape {array.shape} "
            f"in {path}. Put the {part} {kind} there."
        )
    return path, array


def _path(name: str, path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or "\0" in str(path):
        raise TypeError(f"{name}: a path must be text or a Path, got {kind(path)}. Pass a file's name.")
    return Path(path)


def _find(folder: Path, stem: str, ndim: int) -> Path:
    names = [f"{stem}{separator}idx{ndim}-ubyte{end}" for separator in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"load_mnist: found no {stem} file in {folder}. Looked for {', '.join(names)}; "
        "put one of them there or name another folder."
    )
