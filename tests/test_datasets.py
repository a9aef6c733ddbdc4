"""The packaged digits, and the IDX reader on good and broken files."""

import gzip
import os
import struct

import numpy as np
import pytest

from fgrad.datasets import load_digits, load_mnist, read_idx, train_test_split


def idx(array: np.ndarray, code: int) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def write_set(folder, name="{}-{}-idx{}-ubyte", pack=bytes, n_labels=None):
    """A tiny set in MNIST's form: 5 training and 3 test images."""
    for part, n in (("train", 5), ("t10k", 3)):
        images = np.arange(n * 28 * 28, dtype=np.uint8).reshape(n, 28, 28)
        labels = np.arange(n if n_labels is None else n_labels, dtype=np.uint8)
        (folder / name.format(part, "images", 3)).write_bytes(pack(idx(images, 0x08)))
        (folder / name.format(part, "labels", 1)).write_bytes(pack(idx(labels, 0x08)))


def test_digits_have_the_documented_form():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.float32
    assert labels.shape == (1797,) and labels.dtype == np.int32
    assert images.min() == 0 and images.max() == 1
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_unnormalized_are_the_grey_levels():
    raw, _ = load_digits(normalize=False)
    np.testing.assert_array_equal(raw[0, 0, :, 0], [0, 0, 5, 13, 9, 1, 0, 0])
    np.testing.assert_array_equal(raw / 16, load_digits()[0])


@pytest.mark.parametrize("name", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
@pytest.mark.parametrize(("end", "pack"), [("", bytes), (".gz", gzip.compress)])
def test_mnist_under_every_usual_name(tmp_path, name, end, pack):
    write_set(tmp_path, name + end, pack)
    data = load_mnist(tmp_path)
    assert data.train_images.shape == (5, 28, 28, 1) and data.test_images.shape == (3, 28, 28, 1)
    assert data.train_images.dtype == np.float32 and data.train_labels.dtype == np.int32
    assert data.train_labels.tolist() == [0, 1, 2, 3, 4] and data.test_labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(data.train_images.ravel()[:3], np.float32([0, 1, 2]) / np.float32(255))
    assert load_mnist(str(tmp_path), normalize=False).train_images.max() == 255


def test_mnist_missing_file_names_what_was_looked_for(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_mnist(tmp_path)
    assert str(error.value) == (
        f"load_mnist: found no t10k-labels file in {tmp_path}. Looked for t10k-labels-idx1-ubyte, "
        "t10k-labels-idx1-ubyte.gz, t10k-labels.idx1-ubyte, t10k-labels.idx1-ubyte.gz; put one of them there or name "
        "another folder."
    )


def test_mnist_images_and_labels_of_different_sets(tmp_path):
    write_set(tmp_path, n_labels=4)
    with pytest.raises(ValueError) as error:
        load_mnist(tmp_path)
    assert str(error.value) == (
        f"load_mnist: images and labels must be equally many, got 5 images in {tmp_path}/train-images-idx3-ubyte and "
        f"4 labels in {tmp_path}/train-labels-idx1-ubyte. Use files of one set."
    )


def test_mnist_labels_in_the_place_of_images(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes((tmp_path / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(ValueError) as error:
        load_mnist(tmp_path)
    assert str(error.value) == (
        "load_mnist: images must be uint8 of 3 dimensions, got uint8 of shape (5,) in "
        f"{tmp_path}/train-images-idx3-ubyte. Put the train images there."
    )


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_idx_round_trip(tmp_path, code, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    path = tmp_path / "x"
    path.write_bytes(idx(array, code))
    read = read_idx(path)
    assert read.dtype == array.dtype.newbyteorder("=") and read.dtype.isnative and read.flags.writeable
    np.testing.assert_array_equal(read, array)


GOOD = idx(np.zeros((2, 3), np.uint8), 0x08)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"\x89PNG..",
            "must start with 00 00 and a type code of {0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e}, got 89 50 4e 47. "
            "Pass a file in IDX format, gzipped or not.",
        ),
        (
            b"",
            "must start with 00 00 and a type code of {0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e}, got an empty file. "
            "Pass a file in IDX format, gzipped or not.",
        ),
        (
            GOOD[:10],
            "must hold a header of 12 bytes for 2 dimensions, got 10 bytes in all. Fetch the file again.",
        ),
        (GOOD[:-1], "must hold 18 bytes, got 17 (header 12 + 2 × 3 elements of 1). Fetch the file again."),
        (GOOD + b"!", "must hold 18 bytes, got 19 (header 12 + 2 × 3 elements of 1). Fetch the file again."),
    ],
)
def test_idx_says_what_is_wrong(tmp_path, data, message):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ValueError) as error:
        read_idx(path)
    assert str(error.value) == f"read_idx: {path} {message}"


def test_idx_truncated_gzip(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(GOOD)[:-4])
    with pytest.raises(ValueError, match=r"must be a whole gzip file, got \d+ bytes \(.*\)\. Fetch the file again\."):
        read_idx(path)


def test_split_is_fixed_and_complete():
    train, test = train_test_split(1797)
    assert len(test) == 359 and len(train) == 1438
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(1797))
    again = train_test_split(1797)
    np.testing.assert_array_equal(again[1], test)
    assert not np.array_equal(train_test_split(1797, seed=1)[1], test)
    assert len(train_test_split(10, 0.0)[1]) == 0 and len(train_test_split(10, 1.0)[0]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "train_test_split: n must not be negative, got -1. Pass the number of examples."),
        (
            (10, 20),
            "train_test_split: test_fraction must lie in [0, 1], got 20. Pass 0.2 to hold out one in five.",
        ),
    ],
)
def test_split_refuses(arguments, message):
    with pytest.raises(ValueError) as error:
        train_test_split(*arguments)
    assert str(error.value) == message


@pytest.mark.skipif("FGRAD_TEST_MNIST_DIR" not in os.environ, reason="FGRAD_TEST_MNIST_DIR names no folder with MNIST")
def test_mnist_itself():
    data = load_mnist(os.environ["FGRAD_TEST_MNIST_DIR"])
    assert data.train_images.shape == (60000, 28, 28, 1) and data.test_images.shape == (10000, 28, 28, 1)
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9] and data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert float(data.train_images.mean()) == pytest.approx(0.1307, abs=1e-4)
