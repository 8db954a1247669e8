"""Small trainings on scikit-learn's digits, for the frameworks' tests."""

import functools

import torch
from sklearn.datasets import load_digits

from surefoot import Greedy

EAGER = Greedy(factor=0.7, patience=0, window=2)
"""A policy that changes its mind often."""


@functools.cache
def digits(count=96):
    """So many images of 8 by 8 in float32, and what they show."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:count] / 16.0, dtype=torch.float32), torch.tensor(labels[:count])


def network():
    """The same one every time."""
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
