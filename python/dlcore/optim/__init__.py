"""Optimizers: what a training step adds to the graph after the gradients."""

from dlcore.optim.adam import Adam, AdamW
from dlcore.optim.adaptive import Adadelta, Adagrad, Lion, RMSprop
from dlcore.optim.lbfgs import LBFGS
from dlcore.optim.optimizer import Optimizer
from dlcore.optim.sgd import SGD

__all__ = ["LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Lion", "Optimizer", "RMSprop"]
