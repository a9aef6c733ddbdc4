"""Small image data sets as NumPy arrays, read from files: nothing is ever downloaded.

``load_digits`` ships with the package; ``load_mnist`` reads the original IDX files from a folder of the user's.
"""

from fgrad.datasets._digits import load_digits
from fgrad.datasets._mnist import Mnist, load_mnist, read_idx
from fgrad.datasets._split import train_test_split

__all__ = ["load_digits", "load_mnist", "Mnist", "read_idx", "train_test_split"]
