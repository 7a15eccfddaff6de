"""A learnt table of vectors."""

from __future__ import annotations

from dlcore.creation import zeros
from dlcore.nn import functional as F
from dlcore.nn import init
from dlcore.nn.module import Module
from dlcore.tensor import Tensor
from dlcore.variable import Parameter


class Embedding(Module):
    """A table of vectors: integers (…) → (…, embedding_dim). Row `padding_idx` starts at zero and is not learnt."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx {padding_idx} is outside the table of {num_embeddings}")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(zeros((num_embeddings, embedding_dim)))
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.assign(self.weight * F.row_mask(num_embeddings, self.padding_idx))

    def forward(self, indices: Tensor) -> Tensor:
        return F.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        tail = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{tail}"
