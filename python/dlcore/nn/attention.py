"""Multi-head attention and the Transformer's layers, with PyTorch's names of parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from dlcore import dtype, reductions
from dlcore.creation import zeros
from dlcore.elementwise import logical_not, relu, where
from dlcore.nn import functional as F
from dlcore.nn import init
from dlcore.nn.container import ModuleList
from dlcore.nn.dropout import Dropout
from dlcore.nn.linear import Linear
from dlcore.nn.module import Module
from dlcore.nn.norm import LayerNorm
from dlcore.tensor import Tensor, as_tensor, cast_to
from dlcore.variable import Parameter

Activation = Callable[[Tensor], Tensor]


class MultiheadAttention(Module):
    """Attention over num_heads parts of embed_dim: (query, key, value) → (output, weights or None).

    Tensors are (T, N, E), or (N, T, E) with batch_first. Masks as in PyTorch: booleans are True where a key must NOT be
    seen, floats are added. attn_mask is (T, S) or (N·heads, T, S), key_padding_mask (N, S).
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, kdim: int | None = None,
        vdim: int | None = None, batch_first: bool = False,
    ) -> None:  # fmt: skip
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} does not fall into {num_heads} equal heads")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        e = embed_dim
        kdim, vdim = e if kdim is None else kdim, e if vdim is None else vdim
        self.in_proj_weight: Parameter | None = None
        self.q_proj_weight: Parameter | None = None
        if kdim == e and vdim == e:
            self.in_proj_weight = Parameter(zeros((3 * e, e)))
            init.xavier_uniform_(self.in_proj_weight)
        else:
            self.q_proj_weight = Parameter(zeros((e, e)))
            self.k_proj_weight, self.v_proj_weight = Parameter(zeros((e, kdim))), Parameter(zeros((e, vdim)))
            for weight in (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
                init.xavier_uniform_(weight)
        self.in_proj_bias = Parameter(zeros(3 * e)) if bias else None
        self.out_proj = Linear(e, e, bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        e = self.embed_dim
        if self.in_proj_weight is not None and query is key and key is value:
            joint = F.linear(query, self.in_proj_weight, self.in_proj_bias)
            return [joint[..., i * e : (i + 1) * e] for i in range(3)]
        if self.in_proj_weight is not None:
            weights: list[Tensor] = [self.in_proj_weight[i * e : (i + 1) * e] for i in range(3)]
        else:
            assert self.q_proj_weight is not None
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = [None if self.in_proj_bias is None else self.in_proj_bias[i * e : (i + 1) * e] for i in range(3)]
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Any = None, need_weights: bool = True,
        attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        if query.ndim != 3:
            axes = "(N, T, E)" if self.batch_first else "(T, N, E)"
            raise ValueError(f"[MultiheadAttention] expected {axes}, got {query.shape}")
        batch = 0 if self.batch_first else 1
        n, h, d = query.shape[batch], self.num_heads, self.embed_dim // self.num_heads
        # Heads as (N, heads, T, d).
        order = (0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3)
        q, k, v = (x.reshape(*x.shape[:2], h, d).transpose(order) for x in self._project(query, key, value))
        mask = self._mask(attn_mask, key_padding_mask, n, q.dtype)
        causal = is_causal and mask is None
        weights: Tensor | None = None
        if need_weights:
            weights = F.attention_weights(q, k, mask, causal, 1.0 / math.sqrt(d))
            mixed = F.dropout(weights, self.dropout) @ v
            weights = reductions.mean(weights, 1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, self.dropout, causal)
        back = mixed.transpose(0, 2, 1, 3) if self.batch_first else mixed.transpose(2, 0, 1, 3)
        return self.out_proj(back.reshape(*query.shape[:2], self.embed_dim)), weights

    def _mask(self, attn_mask: Any, key_padding_mask: Any, n: int, to: dtype.DType) -> Tensor | None:
        """Both masks as one that broadcasts to (N, heads, T, S)."""
        parts: list[Tensor] = []
        if attn_mask is not None:
            m = as_tensor(attn_mask)
            parts.append(m.reshape(n, self.num_heads, *m.shape[-2:]) if m.ndim == 3 else m)
        if key_padding_mask is not None:
            m = as_tensor(key_padding_mask)
            parts.append(m.reshape(n, 1, 1, m.shape[-1]))
        if not parts:
            return None
        if all(m.dtype is dtype.bool_ for m in parts):
            hidden = parts[0] if len(parts) == 1 else parts[0] | parts[1]
            return logical_not(hidden)
        added = [cast_to(where(m, -math.inf, 0.0) if m.dtype is dtype.bool_ else m, to) for m in parts]
        return added[0] if len(added) == 1 else added[0] + added[1]


def _activation(activation: str | Activation) -> Activation:
    if callable(activation):
        return activation
    if activation not in ("relu", "gelu"):
        raise ValueError(f"activation must be 'relu', 'gelu' or a function, got {activation!r}")
    return relu if activation == "relu" else F.gelu


class _Layer(Module):
    """What encoder and decoder layers share: self-attention, two linear layers, and how parts are added."""

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Activation = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True,
    ) -> None:  # fmt: skip
        self.norm_first, self.activation = norm_first, _activation(activation)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self._between(d_model, nhead, dropout, batch_first, bias)
        self.linear1, self.dropout = Linear(d_model, dim_feedforward, bias), Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        for i in range(1, self._parts() + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias))
        for i in range(1, self._parts() + 1):
            setattr(self, f"dropout{i}", Dropout(dropout))

    def _between(self, d_model: int, nhead: int, dropout: float, batch_first: bool, bias: bool) -> None:
        """Further attention of a decoder."""

    def _parts(self) -> int:
        return 2

    def _add(self, x: Tensor, number: int, part: Activation) -> Tensor:
        """x plus a part of it, normalised before or after."""
        norm, drop = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        added: Tensor = x + drop(part(norm(x))) if self.norm_first else norm(x + drop(part(x)))
        return added

    def _feed_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return y


class TransformerEncoderLayer(_Layer):
    """Self-attention and a block of two linear layers, each added to its input and normalised."""

    def forward(
        self, src: Tensor, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            y: Tensor = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]
            return y

        return self._add(self._add(src, 1, attend), 2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's memory, and a block of two linear layers."""

    def _between(self, d_model: int, nhead: int, dropout: float, batch_first: bool, bias: bool) -> None:
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)

    def _parts(self) -> int:
        return 3

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None, tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        def attend(x: Tensor) -> Tensor:
            y: Tensor = self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]
            return y

        def recall(x: Tensor) -> Tensor:
            y: Tensor = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )[0]
            return y

        return self._add(self._add(self._add(tgt, 1, attend), 2, recall), 3, self._feed_forward)


class TransformerEncoder(Module):
    """num_layers copies of a layer, one after another, and an optional norm."""

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.norm = norm

    def forward(
        self, src: Tensor, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """num_layers copies of a layer, one after another, and an optional norm."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.norm = norm

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Any = None, memory_mask: Any = None,
        tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None, tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        for layer in self.layers:
            tgt = layer(
                tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
                memory_is_causal,
            )  # fmt: skip
        return tgt if self.norm is None else self.norm(tgt)
