"""What a module prints: its table of layers, and what did not fit when a state dict was loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dlcore.dtype import DType
from dlcore.tensor import Tensor
from dlcore.trace import Trace
from dlcore.variable import Parameter

if TYPE_CHECKING:
    from dlcore.nn.module import Module


class Text(str):
    """A string whose repr is itself: KeyError shows the repr of its message."""

    def __repr__(self) -> str:
        return str(self)


def loading(missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[tuple[str, Any, Any]]) -> str:
    lines = [f"  missing     {k}" for k in missing]
    lines += [f"  unexpected  {k}" for k in unexpected]
    lines += [f"  shape       {k}: the model has {own}, the file {given}" for k, own, given in shapes]
    return "\n".join(lines)


def summary(model: Module, input_shape: Sequence[int], dtype: DType) -> str:
    """The model runs once on shapes alone; each layer's output shape is noted as it is computed."""
    shapes: dict[int, str] = {}
    order: list[tuple[str, Module]] = list(model.named_modules())
    running = [m for _, m in order if hasattr(m, "forward")]  # a ModuleList only holds others
    originals = [(m, m.__dict__.get("forward")) for m in running]

    def noting(module: Module) -> Any:
        forward = module.forward

        def noted(*args: Any, **kwargs: Any) -> Any:
            result = forward(*args, **kwargs)
            shapes[id(module)] = _shape(result)
            return result

        return noted

    for m in running:
        m.__dict__["forward"] = noting(m)
    try:
        with Trace() as trace:
            model(Tensor(None, trace, trace.input("x", dtype.code, input_shape)))
    finally:
        for m, original in originals:
            if original is None:
                del m.__dict__["forward"]
            else:
                m.__dict__["forward"] = original

    rows = [("Layer", "Kind", "Output shape", "Parameters")]
    for name, m in order:
        leaf = not any(True for _ in m.named_children())
        own = sum(v.size for _, v in m._members() if isinstance(v, Parameter))
        if leaf or own:
            rows.append((name or "-", type(m).__name__, shapes.get(id(m), "not used"), f"{own:,}"))
    widths = [max(len(r[i]) for r in rows) for i in range(4)]
    lines = ["  ".join([*(r[i].ljust(widths[i]) for i in range(3)), r[3].rjust(widths[3])]) for r in rows]
    rule = "-" * len(lines[0])
    parameters = list(model.parameters())
    total, fixed = sum(p.size for p in parameters), sum(p.size for p in parameters if not p.requires_grad)
    nbytes = sum(p.core.nbytes for p in parameters)
    tail = f"{total:,} parameters ({nbytes / 2**20:.2f} MiB)" + (f", {fixed:,} of them fixed" if fixed else "")
    return "\n".join([lines[0], rule, *lines[1:], rule, f"output {shapes.get(id(model), '')}", tail])


def _shape(result: Any) -> str:
    if isinstance(result, Tensor):
        return str(result.shape)
    if isinstance(result, (tuple, list)):
        return ", ".join(_shape(r) for r in result if r is not None)
    return "-"
