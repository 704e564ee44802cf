"""Images with marks whose places are known, and models fitted to them."""

import numpy as np
import pytest
from torch import nn

from skproto import ProtoPNetClassifier

COLOURS = np.array([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0]])


def marks(n, seed):
    """Images (n, 3, 24, 24) with three marks each: the last two tell the class.

    A 2x2 mark common to all classes, a 4x4 square and a plus sign whose colours give
    the class, at random places at least 6 pixels apart.
    """
    rng = np.random.RandomState(seed)
    y = np.arange(n) % 3
    images = rng.normal(0.5, 0.08, size=(n, 3, 24, 24))
    cells = np.argsort(rng.rand(n, 9), axis=1)[:, :3]
    # Cells of 8 pixels; a shift of up to 2 keeps marks 6 pixels apart.
    centers = np.stack(np.divmod(cells, 3), axis=-1) * 8 + 3
    centers += rng.randint(3, size=centers.shape)
    row, column = np.arange(24)[:, None], np.arange(24)
    down = row - centers[:, :, 0, None, None]
    right = column - centers[:, :, 1, None, None]
    dot = (down[:, 0] // 2 == 0) & (right[:, 0] // 2 == 0)
    square = ((down[:, 1] + 1) // 4 == 0) & ((right[:, 1] + 1) // 4 == 0)
    plus = np.abs(down[:, 2]) + np.abs(right[:, 2]) <= 2
    plus &= (down[:, 2] == 0) | (right[:, 2] == 0)
    shapes = (
        (dot, np.full((n, 3), 0.95)),
        (square, COLOURS[y]),
        (plus, COLOURS[y - 1]),
    )
    for where, colour in shapes:
        images = np.where(where[:, None], colour[:, :, None, None], images)
    object_mask = dot | square | plus
    return images.astype(np.float32), y, centers[..., ::-1], object_mask


@pytest.fixture(scope="session")
def train_marks():
    return marks(450, 0)


@pytest.fixture(scope="session")
def test_marks():
    return marks(150, 1)


def small_net(shape):
    """Two convolutions and one pooling: 12 x 12 cells."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    )


@pytest.fixture(scope="session")
def protopnet(train_marks):
    X, y, _, _ = train_marks
    model = ProtoPNetClassifier(
        2, encoder=small_net, warm_epochs=0, max_epochs=20, random_state=0
    )
    return model.fit(X, y)
