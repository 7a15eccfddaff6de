"""Prints a table row by row, and writes it between marks in a document, so that figures there are never typed."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import dlcore as dl


def machine() -> str:
    """The processor and what dlcore uses of it, for the line above a table."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*: (.*)", cpuinfo.read_text())):
        name = found[1]
    info = dl.info()
    return f"Measured on {name}, {info['isa']}, {info['threads']} cores."


class Table:
    def __init__(self, *columns: str) -> None:
        self.lines: list[str] = []
        self.row(*columns)
        self.row(*["---"] * len(columns))

    def row(self, *cells: object) -> None:
        self.lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(self.lines[-1], flush=True)

    def write(self, path: Path, mark: str) -> None:
        """Replaces what stands between `<!-- mark:begin -->` and `<!-- mark:end -->`, or between the marks of the
        instruction set in use (`mark-avx2`) where the document has these."""
        text = path.read_text()
        own = f"{mark}-{dl.info()['isa']}"
        mark = own if f"<!-- {own}:begin -->" in text else mark
        begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{path} has no place marked {begin} … {end}")
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
        path.write_text("\n".join([head + begin, machine(), "", *self.lines, end + tail]))
