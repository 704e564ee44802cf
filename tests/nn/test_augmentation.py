"""Augmentation: what may change, by how much, and from which random numbers."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from skproto.nn import augmentation
from skproto.nn.augmentation import Augmentation

NOTHING = {"shift": 0.0, "rotation": 0.0, "color": 0.0, "cutout": 0.0}
PARTS = {
    "shift": {"shift": 0.2},
    "flip": {"flip": True},
    "rotation": {"rotation": 20.0},
    "scale": {"scale": 0.3},
    "color": {"color": 0.3},
    "cutout": {"cutout": 0.4},
    "elastic": {"elastic": 20.0},
}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def only(**parts):
    return Augmentation(**{**NOTHING, **parts})


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("shape", [(64, 1, 8, 8), (64, 3, 20, 12)])
def test_each_part_changes_images_and_leaves_the_batch_alone(parts, shape):
    x = torch.randn(shape)
    before = x.clone()
    changed = only(**parts)(x)
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert torch.isfinite(changed).all()
    assert torch.equal(x, before)
    # Flips leave half of the images, small shifts some.
    moved = (changed != x).flatten(1).any(1).float().mean()
    assert moved > 0.3


def test_nothing_returns_the_batch_and_draws_no_number():
    x = torch.randn(4, 3, 8, 8)
    state = torch.get_rng_state()
    assert only()(x) is x
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_is_kept(dtype):
    everything = Augmentation(flip=True, scale=0.1, cutout=0.2, elastic=10.0)
    assert everything(torch.randn(5, 3, 9, 7, dtype=dtype)).dtype == dtype


def test_the_global_generator_decides():
    x = torch.randn(8, 3, 16, 16)
    augment = Augmentation(flip=True, cutout=0.2, elastic=5.0)
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(augment(x))
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert not torch.equal(augment(x), augment(x))


def test_shifts_are_whole_pixels_that_repeat_the_edge():
    x = torch.randn(200, 2, 10, 10)
    changed = only(shift=0.2)(x)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    windows = padded.unfold(2, 10, 1).unfold(3, 10, 1)  # (n, C, 5, 5, 10, 10)
    same = (windows == changed[:, :, None, None]).flatten(4).all(4).all(1)
    assert (same.flatten(1).sum(1) == 1).all()
    # Every one of the 25 shifts is drawn.
    assert same.any(0).all()


def test_a_flip_mirrors_half_of_the_images():
    x = torch.randn(400, 1, 6, 5)
    changed = only(flip=True)(x)
    mirrored = (changed == x.flip(3)).flatten(1).all(1)
    kept = (changed == x).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 0.4 < mirrored.float().mean() < 0.6


def test_interpolated_flip_agrees_with_the_exact_one(monkeypatch):
    x = torch.randn(4, 1, 6, 5)
    monkeypatch.setattr(
        augmentation, "_uniform", lambda x, *shape: -x.new_ones(shape).abs()
    )
    changed = only(flip=True, rotation=1e-7)(x)
    torch.testing.assert_close(changed, x.flip(3), rtol=1e-4, atol=1e-5)


def test_rotation_by_a_right_angle_turns_pixels(monkeypatch):
    x = torch.randn(3, 2, 9, 9)
    monkeypatch.setattr(augmentation, "_uniform", lambda x, *shape: x.new_ones(shape))
    turned = only(rotation=90.0)(x)
    torch.testing.assert_close(turned, x.rot90(1, (2, 3)), rtol=1e-4, atol=1e-5)


def test_rotation_of_an_oblong_image_keeps_distances(monkeypatch):
    x = torch.zeros(1, 1, 21, 41)
    x[0, 0, 10, 24] = 1.0  # 4 pixels right of the centre
    monkeypatch.setattr(augmentation, "_uniform", lambda x, *shape: x.new_ones(shape))
    turned = only(rotation=90.0)(x)
    assert turned[0, 0].argmax().item() == (10 - 4) * 41 + 20


def test_scale_enlarges(monkeypatch):
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 14] = 1.0
    monkeypatch.setattr(augmentation, "_uniform", lambda x, *shape: x.new_ones(shape))
    larger = only(scale=1.0)(x)
    assert larger[0, 0].argmax().item() == 10 * 21 + 18
    assert larger.sum() == pytest.approx(4.0, rel=1e-5)


def test_colour_keeps_the_pattern_of_a_grey_image():
    x = torch.randn(50, 1, 6, 6)
    changed = only(color=0.2)(x)
    gain = changed.flatten(1).std(1) / x.flatten(1).std(1)
    assert gain.min() >= 0.8 - 1e-5
    assert gain.max() <= 1.2 + 1e-5
    offset = changed.flatten(1).mean(1) - gain * x.flatten(1).mean(1)
    assert offset.abs().max() <= 0.2 + 1e-5
    torch.testing.assert_close(
        changed, x * gain[:, None, None, None] + offset[:, None, None, None]
    )


def test_saturation_mixes_with_grey():
    grey = torch.randn(50, 1, 4, 4).expand(-1, 3, -1, -1)
    changed = only(color=0.2)(grey)
    # A grey image has no saturation: channels differ by their tint alone.
    tint = changed - changed[:, :1]
    torch.testing.assert_close(
        tint, tint.mean((2, 3), keepdim=True).expand_as(tint), rtol=0, atol=1e-5
    )
    assert tint.abs().max() <= 0.4 + 1e-5


def test_defaults_shift_turn_recolour_and_cover_but_do_not_mirror():
    default = Augmentation()
    assert min(default.shift, default.rotation, default.color, default.cutout) > 0
    assert not default.flip
    changed = default(torch.ones(64, 1, 20, 20))
    covered = (changed == 0).flatten(1).sum(1)
    assert 0 < covered.min() <= covered.max() <= 9


def test_cutout_is_one_square_of_zeros():
    x = torch.ones(300, 2, 12, 12)
    holes = only(cutout=0.25)(x) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    rows, columns = holes[:, 0].any(2), holes[:, 0].any(1)
    assert torch.equal(holes[:, 0], rows[:, :, None] & columns[:, None])
    assert rows.sum(1).max() == 3
    assert rows.sum(1).min() >= 1
    # All pixels are hidden in some image.
    assert holes.any(0).all()


def test_elastic_noise_is_the_filter_of_scipy():
    x = torch.zeros(3, 1, 28, 20, dtype=torch.float64)
    torch.manual_seed(3)
    noise = torch.rand(3, 2, 28, 20, dtype=torch.float64) * 2 - 1
    torch.manual_seed(3)
    field = augmentation._blurred_noise(x, 4.0).permute(0, 3, 1, 2)
    expected = gaussian_filter(
        noise.numpy(), (0, 0, 4.0, 4.0), mode="constant", truncate=4.0
    )
    np.testing.assert_allclose(field.numpy(), expected, atol=1e-12)


def test_elastic_moves_pixels_by_the_strength(monkeypatch):
    x = torch.arange(30.0).expand(2, 1, 30, 30).clone()
    field = torch.zeros(2, 30, 30, 2)
    field[..., 0] = 0.1
    monkeypatch.setattr(augmentation, "_blurred_noise", lambda x, sigma: field)
    moved = only(elastic=20.0)(x)
    torch.testing.assert_close(moved[..., :27], x[..., :27] + 2.0)


def test_usual_elastic_deformation_moves_by_less_than_a_pixel_or_so():
    field = 20.0 * augmentation._blurred_noise(torch.zeros(200, 1, 60, 60), 4.0)
    inner = field[:, 20:40, 20:40]
    # Standard deviation of blurred uniform noise: 20 / sqrt(3) / (2 sqrt(pi) sigma).
    expected = 20 / math.sqrt(3) / (2 * math.sqrt(math.pi) * 4)
    assert inner.std().item() == pytest.approx(expected, rel=0.05)


def test_parameters_repr_equality_and_copies():
    augment = Augmentation(shift=0.1, flip=True)
    assert repr(augment).startswith("Augmentation(shift=0.1, flip=True, rotation=8.0,")
    assert eval(repr(augment)) == augment
    assert augment != Augmentation(shift=0.1)
    copies = [
        copy.deepcopy(augment),
        pickle.loads(pickle.dumps(augment)),
        clone(augment, safe=False),
    ]
    assert all(one == augment for one in copies)
    assert len({augment, *copies}) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shift": 1.5}, r"'shift' parameter of Augmentation .* in \[0, 1\]. Got 1.5"),
        ({"cutout": -0.1}, r"'cutout' .* Got -0.1"),
        ({"rotation": -5}, r"'rotation' .* of at least 0. Got -5"),
        ({"color": "strong"}, r"'color' .* Got 'strong'"),
        ({"scale": float("nan")}, r"'scale' .* Got nan"),
        ({"flip": "yes"}, r"'flip' .* must be a bool. Got 'yes'"),
        ({"elastic": 5.0, "elastic_sigma": 0.0}, r"'elastic_sigma' .*positive. Got 0"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**parameters)


def test_a_batch_that_holds_no_images():
    with pytest.raises(ValueError, match=r"Got a batch of shape \(5, 64\)"):
        Augmentation()(torch.zeros(5, 64))
