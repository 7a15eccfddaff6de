"""Recurrent layers, with PyTorch's arguments, names of parameters and outputs."""

from __future__ import annotations

from dlcore.creation import zeros
from dlcore.nn import functional as F
from dlcore.nn import init
from dlcore.nn.module import Module
from dlcore.shaping import concatenate, pad, stack
from dlcore.tensor import Tensor, apply, as_tensor
from dlcore.variable import Parameter


class _Recurrent(Module):
    """Layers one after another, each in one or two directions; parameters as weight_ih_l0, weight_ih_l0_reverse, …"""

    _gates = 1
    _states = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False,
    ) -> None:  # fmt: skip
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(
                f"[{type(self).__name__}] input_size, hidden_size and num_layers must be at least 1, "
                f"got {input_size}, {hidden_size} and {num_layers}"
            )
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"[{type(self).__name__}] dropout must be between 0 and 1, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        rows, bound = self._gates * hidden_size, hidden_size**-0.5
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * self._directions
            for direction in range(self._directions):
                shapes: list[tuple[str, tuple[int, ...]]] = [
                    ("weight_ih", (rows, width)),
                    ("weight_hh", (rows, hidden_size)),
                ]
                shapes += [("bias_ih", (rows,)), ("bias_hh", (rows,))] if bias else []
                for name, shape in shapes:
                    parameter = Parameter(zeros(shape))
                    init.uniform_(parameter, -bound, bound)
                    setattr(self, self._name(name, layer, direction), parameter)

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @staticmethod
    def _name(kind: str, layer: int, direction: int) -> str:
        return f"{kind}_l{layer}{'_reverse' if direction else ''}"

    def _parameters_of(self, layer: int, direction: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        w_ih, w_hh = (getattr(self, self._name(kind, layer, direction)) for kind in ("weight_ih", "weight_hh"))
        if not self.bias:
            return w_ih, w_hh, None, None
        return (w_ih, w_hh, *(getattr(self, self._name(kind, layer, direction)) for kind in ("bias_ih", "bias_hh")))

    def _direction(self, x: Tensor, states: list[Tensor], layer: int, direction: int) -> tuple[Tensor, list[Tensor]]:
        """(T, B, I) and states (B, H) → (T, B, H) and the last states."""
        raise NotImplementedError

    def _run(self, x: Tensor, given: tuple[Tensor, ...] | None) -> tuple[Tensor, list[Tensor]]:
        """The output, and each kind of last state as (layers · directions, B, H); without B where x had none."""
        name, directions = type(self).__name__, self._directions
        x = as_tensor(x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            axes = "(N, T, {0})" if self.batch_first else "(T, N, {0})"
            raise ValueError(
                f"[{name}] expected {axes.format(self.input_size)} or (T, {self.input_size}), got {x.shape}"
            )
        alone = x.ndim == 2
        if alone:
            x = x.reshape(x.shape[0], 1, self.input_size)
        elif self.batch_first:
            x = x.transpose(1, 0, 2)
        batch, want = x.shape[1], (self.num_layers * directions, x.shape[1], self.hidden_size)
        initial: list[Tensor] | None = None
        if given is not None:
            initial = [
                s.reshape(s.shape[0], 1, s.shape[1]) if alone and s.ndim == 2 else s for s in map(as_tensor, given)
            ]
            for state in initial:
                if state.shape != want:
                    shown = (want[0], want[2]) if alone else want
                    raise ValueError(f"[{name}] expected an initial state (layers · directions, N, hidden) of {shown}, "
                                     f"got {state.shape}")  # fmt: skip
        last: list[list[Tensor]] = [[] for _ in range(self._states)]
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout)
            parts = []
            for direction in range(directions):
                index = layer * directions + direction
                if initial is None:
                    states = [zeros((batch, self.hidden_size), x.dtype)] * self._states
                else:
                    states = [s[index] for s in initial]
                y, ends = self._direction(x, states, layer, direction)
                parts.append(y)
                for collected, end in zip(last, ends, strict=True):
                    collected.append(end)
            x = parts[0] if directions == 1 else concatenate(parts, -1)
        ends = [stack(s) for s in last]
        if alone:
            return x.reshape(x.shape[0], x.shape[2]), [s.reshape(want[0], want[2]) for s in ends]
        return (x.transpose(1, 0, 2) if self.batch_first else x), ends

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0), ("bidirectional", False),
        ):  # fmt: skip
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


class LSTM(_Recurrent):
    """Long short-term memory: (x, (h0, c0) or None) → (output, (h, c)).

    x is (T, N, input_size), (N, T, input_size) with batch_first, or (T, input_size); the output likewise with
    hidden_size · directions, states (num_layers · directions, N, hidden_size). Gates in the order i, f, g, o.
    """

    _gates = 4
    _states = 2

    def _direction(self, x: Tensor, states: list[Tensor], layer: int, direction: int) -> tuple[Tensor, list[Tensor]]:
        w_ih, w_hh, b_ih, b_hh = self._parameters_of(layer, direction)
        gates = F.linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
        y, h, c, *_ = apply("lstm", (gates, *states, w_hh), {"reverse": direction})
        return y, [h, c]

    def forward(self, x: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self._run(x, hx)
        return y, (h, c)


class GRU(_Recurrent):
    """Gated recurrent unit: (x, h0 or None) → (output, h); shapes as LSTM's. Gates in the order r, z, n."""

    _gates = 3

    def _direction(self, x: Tensor, states: list[Tensor], layer: int, direction: int) -> tuple[Tensor, list[Tensor]]:
        w_ih, w_hh, b_ih, b_hh = self._parameters_of(layer, direction)
        n = self.hidden_size
        if b_ih is None or b_hh is None:
            gates, b_n = F.linear(x, w_ih), zeros(n, x.dtype)
        else:  # r multiplies b_hn, so only the other two join the input's
            gates, b_n = F.linear(x, w_ih, b_ih + pad(b_hh[: 2 * n], [(0, n)])), b_hh[2 * n :]
        y, h, *_ = apply("gru", (gates, *states, w_hh, b_n), {"reverse": direction})
        return y, [h]

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, (h,) = self._run(x, None if hx is None else (hx,))
        return y, h


class RNN(_Recurrent):
    """h = tanh(W x + b + W' h + b') (or relu): (x, h0 or None) → (output, h); shapes as LSTM's."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
    ) -> None:  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"[RNN] nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)

    def _direction(self, x: Tensor, states: list[Tensor], layer: int, direction: int) -> tuple[Tensor, list[Tensor]]:
        w_ih, w_hh, b_ih, b_hh = self._parameters_of(layer, direction)
        gates = F.linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
        y, h = apply("rnn", (gates, *states, w_hh), {"reverse": direction, "nonlinearity": self.nonlinearity})
        return y, [h]

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, (h,) = self._run(x, None if hx is None else (hx,))
        return y, h

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")
