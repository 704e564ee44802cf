"""Changes of one visual attribute: exact cases, and what they leave alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from skproto import perturb

COLOUR = (perturb.saturate, perturb.hue_shift)
FACTORS = (perturb.brightness, perturb.contrast, perturb.saturate)


def pictures(seed, shape=(2, 3, 7, 9), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def pixel(*channels):
    return torch.tensor(channels).view(1, 3, 1, 1)


# -- exact cases -----------------------------------------------------------------------


def test_brightness_of_a_half():
    x = torch.full((1, 3, 2, 2), 0.5)
    assert_close(perturb.brightness(x, 0.8), torch.full_like(x, 0.4))


def test_contrast_of_a_constant_image_is_itself():
    x = torch.full((1, 3, 4, 4), 0.3)
    assert_close(perturb.contrast(x, 0.45), x, atol=1e-7, rtol=0)


def test_contrast_blends_with_the_mean_grey():
    x = pictures(0)
    grey = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    expected = 0.45 * x + 0.55 * grey.mean((1, 2)).view(-1, 1, 1, 1)
    assert_close(perturb.contrast(x, 0.45), expected)


def test_no_saturation_is_grey():
    x = pictures(0)
    grey = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    assert_close(perturb.saturate(x, 0.0), grey[:, None].expand_as(x))


def test_red_turns_green_blue_and_back():
    red = pixel(1.0, 0.0, 0.0)
    assert_close(perturb.hue_shift(red, 1 / 3), pixel(0.0, 1.0, 0.0))
    assert_close(perturb.hue_shift(red, 2 / 3), pixel(0.0, 0.0, 1.0))
    assert_close(perturb.hue_shift(red, -1 / 3), pixel(0.0, 0.0, 1.0))
    assert_close(perturb.hue_shift(red, 1 / 6), pixel(1.0, 1.0, 0.0))


def test_hue_is_that_of_the_hsv_model():
    """An independent path through hue, saturation and value."""
    from colorsys import hsv_to_rgb, rgb_to_hsv

    x = pictures(3, (1, 3, 5, 5), torch.float64)
    shifted = perturb.hue_shift(x, 0.37)
    for row in range(5):
        for column in range(5):
            h, s, v = rgb_to_hsv(*x[0, :, row, column].tolist())
            expected = torch.tensor(hsv_to_rgb((h + 0.37) % 1, s, v)).double()
            assert_close(shifted[0, :, row, column], expected)


def test_grey_has_no_hue():
    x = pictures(0, (1, 1, 5, 5)).expand(1, 3, 5, 5)
    assert torch.equal(perturb.hue_shift(x, 0.4), x)


def test_displacements_of_the_paper():
    """Amplitude of 4 pixels, w = 0.05, rows 0, 2, ..., 40."""
    shifts = perturb.sine_displacements(41, 4, 40)[::2]
    expected = [0, 1, 2, 3, 3, 4, 3, 3, 2, 1, 0, -1, -2, -3, -3, -4, -3, -3, -2, -1, 0]
    assert shifts.tolist() == expected


def test_displacements_do_not_fall_short_by_rounding():
    # 4 sin(30 degrees) is 1.9999999999999998 in floating point.
    assert perturb.sine_displacements(4, 4, 12).tolist() == [0, 2, 3, 4]


def test_shear_is_a_roll_of_rows_then_columns():
    x = pictures(1, (1, 2, 6, 8))
    rows = perturb.sine_displacements(6, 2.0, 5.0)
    columns = perturb.sine_displacements(8, 1.5, 7.0)
    expected = x.numpy().copy()
    for i, shift in enumerate(rows.tolist()):
        expected[:, :, i] = np.roll(expected[:, :, i], shift, axis=-1)
    for j, shift in enumerate(columns.tolist()):
        expected[..., j] = np.roll(expected[..., j], shift, axis=-1)
    found = perturb.sine_shear(x, (2.0, 1.5), (5.0, 7.0))
    assert np.array_equal(found.numpy(), expected)


def test_non_local_means_by_hand():
    """All weights of a small image, by the formula."""
    x = pictures(2, (1, 2, 5, 5), torch.float64)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")[0]
    h, expected = 0.4, torch.zeros_like(x[0])
    for i in range(5):
        for j in range(5):
            total, weights = torch.zeros(2, dtype=torch.float64), 0.0
            own = padded[:, i + 1 : i + 4, j + 1 : j + 4]
            for a in range(i, i + 3):
                for b in range(j, j + 3):
                    other = padded[:, a : a + 3, b : b + 3]
                    weight = (-((own - other) ** 2).mean() / h**2).exp()
                    total += weight * padded[:, a + 1, b + 1]
                    weights += weight
            expected[:, i, j] = total / weights
    assert_close(perturb.nl_means(x, h, template=3, search=3)[0], expected)


def test_non_local_means_keep_edges_and_lose_noise():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8:] = 1.0
    noisy = image + 0.02 * (pictures(5, image.shape) - 0.5)
    smooth = perturb.nl_means(noisy, 0.1, 3, 7)
    assert (smooth - image).square().mean() < 0.3 * (noisy - image).square().mean()
    assert (smooth[..., 8:] - smooth[..., :8]).min() > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strength_of_nothing_is_the_identity(dtype):
    x = pictures(0, dtype=dtype)
    for change in FACTORS:
        assert torch.equal(change(x, 1.0), x)
    assert torch.equal(perturb.hue_shift(x, 0.0), x)
    assert torch.equal(perturb.sine_shear(x, 0.0, 5.0), x)
    assert torch.equal(perturb.nl_means(x, 0.0), x)
    assert_close(perturb.nl_means(x, 1e-6), x, atol=1e-6, rtol=0)


# -- properties ------------------------------------------------------------------------

seeds = st.integers(0, 10_000)
shares = st.floats(0, 1, allow_nan=False)


@settings(deadline=None, max_examples=30)
@given(seeds, shares)
def test_hue_is_cyclic(seed, shift):
    x = pictures(seed)
    back = perturb.hue_shift(perturb.hue_shift(x, shift), 1 - shift)
    assert_close(back, x, atol=1e-6, rtol=0)
    thirds = x
    for _ in range(3):
        thirds = perturb.hue_shift(thirds, 1 / 3)
    assert_close(thirds, x, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(seeds, shares)
def test_hue_keeps_the_largest_channel_to_the_bit(seed, shift):
    x = pictures(seed)
    changed = perturb.hue_shift(x, shift)
    assert torch.equal(changed.amax(1), x.amax(1))
    assert_close(changed.amin(1), x.amin(1), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0, 6), st.floats(1.5, 30))
def test_shear_keeps_the_pixels(seed, amplitude, period):
    x = pictures(seed)
    sideways = perturb.sine_shear(x, (amplitude, 0.0), period)
    assert torch.equal(sideways.sort(-1).values, x.sort(-1).values)
    down = perturb.sine_shear(x, (0.0, amplitude), period)
    assert torch.equal(down.sort(-2).values, x.sort(-2).values)
    both = perturb.sine_shear(x, amplitude, period).flatten(2)
    assert torch.equal(both.sort(-1).values, x.flatten(2).sort(-1).values)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0, 3))
def test_values_stay_in_their_range(seed, factor):
    x = pictures(seed)
    changed = [change(x, factor) for change in FACTORS]
    changed += [perturb.hue_shift(x, factor), perturb.nl_means(x, factor + 0.01, 3, 5)]
    for found in changed:
        assert found.shape == x.shape
        assert found.min() >= -1e-6
        assert found.max() <= 1 + 1e-6


@settings(deadline=None, max_examples=20)
@given(seeds, shares)
def test_images_do_not_depend_on_their_company(seed, share):
    x = pictures(seed, (3, 3, 6, 6))
    for change in (
        lambda v: perturb.contrast(v, share),
        lambda v: perturb.hue_shift(v, share),
        lambda v: perturb.nl_means(v, 0.1 + share, 3, 5),
    ):
        assert_close(change(x)[1:2], change(x[1:2]), atol=1e-7, rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seeds, shares, shares)
def test_blends_multiply(seed, first, second):
    x = pictures(seed, dtype=torch.float64)
    for change in FACTORS:
        twice = change(change(x, first), second)
        assert_close(twice, change(x, first * second), atol=1e-12, rtol=0)


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize("change", COLOUR)
def test_colour_needs_three_channels(change):
    with pytest.raises(ValueError, match=r"3 channels.*Got 1 channels"):
        change(torch.zeros(1, 1, 4, 4), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: perturb.brightness(x[0], 0.5), "shape .n, channels"),
        (lambda x: perturb.brightness(x.int(), 0.5), "floats from 0 to 1"),
        (lambda x: perturb.brightness(x.numpy(), 0.5), "must be a tensor"),
        (lambda x: perturb.contrast(x, -1), "factor must be .* Got -1"),
        (lambda x: perturb.contrast(x, float("nan")), "factor must be"),
        (lambda x: perturb.hue_shift(x, float("inf")), "shift must be a finite"),
        (lambda x: perturb.sine_shear(x, 1.0, 0.0), "period must be .* Got 0"),
        (lambda x: perturb.sine_shear(x, -1.0, 4.0), "amplitude must be"),
        (lambda x: perturb.nl_means(x, -0.1), "h must be"),
        (lambda x: perturb.nl_means(x, 0.1, template=4), "template must be an odd"),
        (lambda x: perturb.nl_means(x, 0.1, search=0), "search must be an odd"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(pictures(0))
