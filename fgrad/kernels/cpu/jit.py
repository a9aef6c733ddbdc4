"""The one LLVM engine of the process: specs of emitted kernels in, addresses of machine code out.

Compiled objects are kept on disk (`objects`), named by a hash of everything that determines them: `Emitted.identity`,
the processor and its features, LLVM's version and its passes.  So a second process compiles nothing.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import os
import sys
import threading

import llvmlite
import llvmlite.binding as llvm

from fgrad import config
from fgrad.kernels.cpu import objects
from fgrad.kernels.cpu.body import Emitted
from fgrad.kernels.cpu.irtext import KERNEL
from fgrad.kernels.cpu.scalar import LIBM


def address(spec: Emitted) -> int:
    """The address of the kernel of a spec, compiled at most once in this process."""
    key = spec, config.cpu_vector_bits()
    found = _addresses.get(key)
    if found is None:
        with _lock:
            found = _addresses.get(key)
            if found is None:
                found = _addresses[key] = _get_engine().load(spec)
    return found


def ir_text(spec: Emitted) -> str:
    """The kernel as it is handed to LLVM, for reading."""
    with _lock:
        return _get_engine().text(spec)


def assembly(spec: Emitted) -> str:
    """The kernel's machine code, for reading."""
    with _lock:
        engine = _get_engine()
        return engine.machine.emit_assembly(engine.optimised(engine.text(spec), spec.level))


_lock = threading.RLock()
_addresses: dict[tuple[Emitted, int | None], int] = {}
_engine: _Engine | None = None


def _get_engine() -> _Engine:
    global _engine
    if _engine is None:
        _engine = _Engine()
    return _engine


def _new_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _lock.acquire(), after_in_parent=lambda: _lock.release(), after_in_child=_new_lock
    )


# SLP makes these loops no faster and compiling slower (24 ms a kernel).
_PASSES = {
    "loop_vectorization": True,
    "loop_interleaving": True,
    "loop_unrolling": True,
    "slp_vectorization": False,
}
_CODE = {"opt": 3, "codemodel": "jitdefault"}


class _Engine:
    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_triple(llvm.get_process_triple())
        self.cpu = llvm.get_host_cpu_name()
        features = llvm.get_host_cpu_features()
        self.features = features.flatten()
        arch = target.triple.split("-")[0]
        x86 = arch in ("x86_64", "i686", "i386", "amd64")
        self.native_half = bool(features.get("f16c")) if x86 else arch in ("aarch64", "arm64")
        self.widest = 512 if features.get("avx512f") else None
        # as every JIT on MCJIT: x86 objects are linked in place, others are position independent
        reloc = "static" if x86 else "default"
        self.machine = target.create_target_machine(
            cpu=self.cpu, features=self.features, reloc=reloc, jit=True, **_CODE
        )
        empty = llvm.parse_assembly(f'target triple = "{target.triple}"')
        self._jit = llvm.create_mcjit_compiler(empty, self.machine)
        versions = llvmlite.__version__, str(llvm.llvm_version_info)
        self._compiler = (self.cpu, self.features, *versions, repr(_PASSES), repr(_CODE))
        self._layout = f'target datalayout = "{self.machine.target_data}"\ntarget triple = "{target.triple}"\n'
        self._kept: list[object] = []
        self._loaded: dict[str, int] = {}
        _add_libm()

    def text(self, spec: Emitted) -> str:
        return self._layout + spec.text(self.native_half, self._vector_bits)

    @property
    def _vector_bits(self) -> int | None:
        return config.cpu_vector_bits() or self.widest

    def optimised(self, text: str, level: int) -> llvm.ModuleRef:
        module = llvm.parse_assembly(text)
        options = llvm.create_pipeline_tuning_options(speed_level=level)
        for option, value in _PASSES.items():
            setattr(options, option, value)
        builder = llvm.create_pass_builder(self.machine, options)
        builder.getModulePassManager().run(module, builder)
        return module

    def load(self, spec: Emitted) -> int:
        identity = self._layout + spec.identity(self.native_half, self._vector_bits)
        what = "\0".join((identity, str(spec.level), *self._compiler))
        digest = hashlib.sha256(what.encode()).hexdigest()
        if digest in self._loaded:  # for another vector width, which makes no difference to it
            return self._loaded[digest]
        symbol = f"{KERNEL}_{digest[:32]}"  # kernels share one symbol table
        code = objects.read(spec.folder, digest)
        if code is None:
            text = self.text(spec).replace(f"@{KERNEL}(", f"@{symbol}(")
            module = self.optimised(text, spec.level)
            code = self.machine.emit_object(module)
            if _is_self_contained(module):
                objects.write(spec.folder, digest, code)
        held = llvm.ObjectFileRef.from_data(code)
        self._jit.add_object_file(held)
        self._kept.append(held)
        self._jit.finalize_object()
        found = self._jit.get_function_address(symbol)
        assert found, spec
        self._loaded[digest] = found
        return found


def add_symbol(name: str, address: int) -> None:
    """Tells LLVM where a function of this process is that compiled code may call."""
    llvm.add_symbol(name, address)
    _symbols.add(name)


_symbols: set[str] = set()


def _is_self_contained(module: llvm.ModuleRef) -> bool:
    """Whether every process knows what the code calls: LLVM ends a process that loads it and does not.

    Where Intel's vector library is installed, Numba may call that, which only Numba loads.
    """
    called = (function.name for function in module.functions if function.is_declaration)
    return all(name.startswith("llvm.") or name in _symbols for name in called)


def _add_libm() -> None:
    """Tells LLVM where the C library's mathematics is, whether or not the process's own symbols show it."""
    if sys.platform == "win32":
        libraries = [ctypes.CDLL("ucrtbase"), ctypes.CDLL("msvcrt")]
    else:
        name = ctypes.util.find_library("m")
        libraries = [ctypes.CDLL(None), *([ctypes.CDLL(name)] if name else [])]
    for base in (*LIBM, "fmod", "fma", "floor", "ceil", "trunc", "rint"):
        for symbol in (base, base + "f"):
            function = next((getattr(lib, symbol) for lib in libraries if hasattr(lib, symbol)), None)
            if function is not None:
                pointer = ctypes.cast(function, ctypes.c_void_p).value
                assert pointer is not None
                add_symbol(symbol, pointer)
