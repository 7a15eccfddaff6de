"""Prints a table row by row, and writes it between marks in a document, so that figures there are never typed."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import dlcore as dl


def _processor(field: str) -> str:
    """What /proc/cpuinfo says of it, or nothing."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(rf"{field}\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else ""


def machine() -> str:
    """The processor and what dlcore uses of it, for the line above a table."""
    name = _processor("model name") or platform.processor() or platform.machine()
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
        instruction set in use (`mark-avx2`), or of it and the processor's maker (`mark-avx2-intel`), where the
        document has these."""
        text = path.read_text()
        own = f"{mark}-{dl.info()['isa']}"
        maker = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}.get(_processor("vendor_id"), "other")
        mark = next((m for m in (f"{own}-{maker}", own) if f"<!-- {m}:begin -->" in text), mark)
        begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{path} has no place marked {begin} … {end}")
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
        path.write_text("\n".join([head + begin, machine(), "", *self.lines, end + tail]))
