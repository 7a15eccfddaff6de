"""Labelled data: datasets, splitting off a sealed test set, batches, preprocessing."""

from dlcore.data.dataset import ArrayDataset
from dlcore.data.idx import read_idx
from dlcore.data.loader import DataLoader
from dlcore.data.transforms import CharTokenizer, Normalize

__all__ = ["ArrayDataset", "CharTokenizer", "DataLoader", "Normalize", "read_idx"]
