"""Layers, losses and their functions, named as PyTorch's."""

from dlcore.nn.module import Module
from dlcore.tensor import Buffer, Parameter

__all__ = ["Buffer", "Module", "Parameter"]
