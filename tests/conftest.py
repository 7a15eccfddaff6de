"""Shared by all tests: the instruction sets this machine can run, and a clean state after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dlcore import _core

ALL_ISAS = ["ref", "avx2", "avx512"]
ISAS = ALL_ISAS[: ALL_ISAS.index(_core.isa()) + 1]  # DLCORE_MAX_ISA lowers it


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    isa, threads = _core.isa(), _core.num_threads()
    yield
    _core.set_isa(isa)
    _core.set_num_threads(threads)
