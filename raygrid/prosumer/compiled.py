"""The one way raygrid compiles its inner loops."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np

from raygrid.arrays import FloatArray

P = ParamSpec("P")
R = TypeVar("R")


_INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}


def _kernel_digest() -> str:
    """Digest of all sources with compiled functions.

    numba's disk cache looks only at the file of the outermost function, and would go on
    serving machine code of inner functions that have changed since.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"raygrid.prosumer.compiled import" in source or path == Path(__file__):
            digest.update(source)
    return digest.hexdigest()[:16]


KERNEL_DIGEST = _kernel_digest()


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile without the GIL and keep the machine code on disk.

    Never with fast maths, which would let one prosumer's bits depend on how loops were
    unrolled; never parallel, since the caller's threads share the rows. Division by zero
    follows IEEE, as in numpy.
    """
    function.__qualname__ += f"-{KERNEL_DIGEST}"  # names the file in the disk cache
    return cast("Callable[P, R]", numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def compiled_in_place(function: Callable[P, R]) -> Callable[P, R]:
    """Compile as `compiled` what allocates nothing.

    Without reference counts of array views the local solver takes a quarter less time.
    """
    function.__qualname__ += f"-{KERNEL_DIGEST}"
    options: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False}
    return cast("Callable[P, R]", numba.njit(error_model="numpy", **options)(function))


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """Compile for calls from compiled code only, which saves the wrappers' compile time.

    Such a function may not allocate arrays.
    """
    return cast("Callable[P, R]", numba.njit(error_model="numpy", **_INNER)(function))


def merged(function: Callable[P, R]) -> Callable[P, R]:
    """Compile as `inner`, as a part of its caller.

    For a large function with one caller: it is then not optimised alone as well. Several
    callers, or small functions, take longer this way.
    """
    options = {**_INNER, "inline": "always"}
    return cast("Callable[P, R]", numba.njit(error_model="numpy", **options)(function))


def frozen_view(array: FloatArray) -> FloatArray:
    """A read-only, contiguous float64 view (a copy only where needed).

    Arrays from a shared object store are read-only; numba would compile a second time for
    them, so kernels take every input this way.
    """
    view = np.ascontiguousarray(array, dtype=np.float64).view()
    view.flags.writeable = False
    return view
