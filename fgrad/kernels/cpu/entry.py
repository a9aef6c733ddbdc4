"""The way from Python into the loops of a program: a builtin function of machine code.

    run(head, operands, results, threads) -> whether a host step failed

A call takes 0.2 us, where Numba's dispatcher takes 0.5 and ctypes 1.  It runs without the GIL, so Python's other
threads go on.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from fgrad.kernels.cpu import jit
from fgrad.kernels.cpu.body import Emitted
from fgrad.kernels.cpu.irtext import KERNEL
from fgrad.kernels.cpu.machine import HEAD

_METH_FASTCALL = 0x80
_C_API = ("PyLong_AsLongLong", "PyEval_SaveThread", "PyEval_RestoreThread", "PyBool_FromLong")


class _Method(ctypes.Structure):
    """PyMethodDef"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


@dataclass(frozen=True)
class EntrySpec(Emitted):
    """``PyObject *entry(PyObject *loop, PyObject *const *args, Py_ssize_t n)``, ``loop`` an address as a Python int."""

    def text(self, native_half: bool, vector_bits: int | None) -> str:
        return _TEXT


_TEXT = f"""\
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyBool_FromLong(i64)

define ptr @{KERNEL}(ptr %loop, ptr %args, i64 %n) {{
  %address = call i64 @PyLong_AsLongLong(ptr %loop)
  %run = inttoptr i64 %address to ptr
  %arg0 = load ptr, ptr %args
  %head = call i64 @PyLong_AsLongLong(ptr %arg0)
  %at1 = getelementptr ptr, ptr %args, i64 1
  %operands = load i64, ptr %at1
  %at2 = getelementptr ptr, ptr %args, i64 2
  %results = load i64, ptr %at2
  %at3 = getelementptr ptr, ptr %args, i64 3
  %arg3 = load ptr, ptr %at3
  %threads = call i64 @PyLong_AsLongLong(ptr %arg3)
  %state = call ptr @PyEval_SaveThread()
  call void %run(i64 %head, i64 %operands, i64 %results, i64 %threads)
  call void @PyEval_RestoreThread(ptr %state)
  %words = inttoptr i64 %head to ptr
  %at_stopped = getelementptr i64, ptr %words, i64 {HEAD.index("stopped")}
  %stopped = load i64, ptr %at_stopped
  %result = call ptr @PyBool_FromLong(i64 %stopped)
  ret ptr %result
}}
"""


def entry(loop: int) -> Callable[[int, tuple, tuple, int], bool]:
    """The loop at an address, as a Python function."""
    for symbol in _C_API:
        address = ctypes.cast(getattr(ctypes.pythonapi, symbol), ctypes.c_void_p).value
        assert address is not None
        jit.add_symbol(symbol, address)
    bound = _Loop(loop)
    bound.method = _Method(b"run", jit.address(EntrySpec()), _METH_FASTCALL, None)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.POINTER(_Method), ctypes.py_object, ctypes.c_void_p]
    return make(bound.method, bound, None)


class _Loop(int):
    """The address that a function is bound to.  It owns the function's method, which must outlive the function: the
    interpreter looks there once more when it frees the function, at the very end of a process, and only then lets go of
    what it is bound to.
    """

    method: _Method
