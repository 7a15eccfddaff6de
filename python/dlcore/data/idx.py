"""IDX files, the format of MNIST and Fashion-MNIST (yann.lecun.com/exdb/mnist), plain or compressed by gzip or xz."""

from __future__ import annotations

import gzip
import lzma
import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from dlcore.errors import FileError

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_LIMIT = 1 << 33  # bytes


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """The array of an IDX file (.gz and .xz are opened). Raises FileError where it is none or is cut short."""
    name = os.fspath(path)
    try:
        raw = _read(name)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise FileError(name, f"damaged compression: {error}") from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise FileError(name, "no IDX file: it should begin with two zero bytes and a known type")
    rank = raw[3]
    if not 1 <= rank <= 8 or len(raw) < 4 + 4 * rank:
        raise FileError(name, f"an IDX file of {rank} dimensions, or cut short in its header")
    shape = tuple(int(d) for d in np.frombuffer(raw, ">u4", rank, 4))
    dtype = np.dtype(_TYPES[raw[2]])
    wanted = math.prod(shape) * dtype.itemsize
    if len(raw) - 4 - 4 * rank != wanted:
        raise FileError(name, f"shape {shape} needs {wanted} bytes of data, the file has {len(raw) - 4 - 4 * rank}")
    return np.frombuffer(raw, dtype, offset=4 + 4 * rank).reshape(shape).astype(dtype.newbyteorder("="))


def _read(name: str) -> bytes:
    if name.endswith(".gz"):
        with gzip.open(name) as file:
            return file.read(_LIMIT)
    if name.endswith(".xz"):
        with lzma.open(name) as compressed:
            return compressed.read(_LIMIT)
    with open(name, "rb") as plain:
        return plain.read(_LIMIT)
