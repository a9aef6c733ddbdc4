"""How the tests of error messages compare: the exception's class and the whole of its text."""

import os
import re

import pytest

LINE = re.compile(
    re.escape(os.path.dirname(os.path.abspath(__file__)) + os.sep) + r"(?:\w+/)*\w+\.py:\d+(?: \((?:<lambda>|\w+)\))?"
)
ADDRESS = re.compile(r" at 0x\w+")


def check(error, text, f):
    """f() raises exactly ``error`` with this message, in which HERE stands for a line of a test."""
    with pytest.raises(error) as caught:
        f()
    assert type(caught.value) is error
    assert ADDRESS.sub("", LINE.sub("HERE", str(caught.value))) == text


def cases(*rows):
    """Rows of (name, error, text, f) as a test's parameters."""
    return pytest.mark.parametrize(("error", "text", "f"), [pytest.param(*row[1:], id=row[0]) for row in rows])
