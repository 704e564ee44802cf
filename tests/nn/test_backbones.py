"""Small encoders of images: shapes, sizes, gradients, export, errors."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skproto.nn.backbones import ConvEncoder, ViTEncoder
from skproto.nn.encoders import make_encoder

ENCODERS = [ConvEncoder, ViTEncoder]


def images(n, shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def tokens_of(output):
    """Tokens (n, T, D) of a map or of tokens with their class token."""
    return output[0] if isinstance(output, tuple) else output.flatten(2).mT


@pytest.mark.parametrize(
    ("side", "expected"),
    [(4, 4), (7, 7), (8, 4), (14, 7), (16, 4), (28, 7), (32, 4), (48, 6), (96, 6)],
)
def test_conv_halves_until_the_map_is_small(side, expected):
    encoder = ConvEncoder((1, side, side))
    assert encoder.grid == (expected, expected)
    assert encoder(images(2, (1, side, side))).shape == (2, 32, expected, expected)


def test_conv_of_an_oblong_image():
    encoder = ConvEncoder((3, 16, 50), dim=5)
    assert encoder.grid == (4, 12)
    assert encoder(images(2, (3, 16, 50))).shape == (2, 5, 4, 12)


def test_conv_pools_as_often_as_told_and_repeats_the_last_width():
    encoder = ConvEncoder((3, 32, 32), channels=(8, 16), dim=4, pool=3)
    widths = [m.out_channels for m in encoder if isinstance(m, nn.Conv2d)]
    assert widths == [8, 16, 16, 16, 4]
    assert encoder.grid == (4, 4)
    assert ConvEncoder((3, 32, 32), pool=0).grid == (32, 32)


def test_the_last_block_sees_the_final_map():
    encoder = ConvEncoder((1, 64, 64))
    kinds = [type(m) for m in encoder]
    assert kinds.count(nn.MaxPool2d) == 4
    assert kinds[-4:] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]


@pytest.mark.parametrize("n_channels", [1, 3])
def test_every_layer_of_conv_works_with_the_channels_last(n_channels):
    encoder = ConvEncoder((n_channels, 16, 16))
    seen = []
    for layer in encoder:
        layer.register_forward_hook(lambda _, inputs, z: seen.extend([*inputs, z]))
    encoder(images(4, (n_channels, 16, 16)))
    assert all(z.stride()[1] == 1 for z in seen)


def test_conv_flattens_to_sites_without_a_copy():
    z = ConvEncoder((1, 8, 8)).eval()(images(3, (1, 8, 8)))
    assert z.flatten(2).mT.is_contiguous()


@pytest.mark.parametrize(
    ("side", "patch", "grid"),
    [(8, 2, 4), (28, 7, 4), (32, 8, 4), (96, 24, 4), (30, 6, 5), (49, 7, 7)],
)
def test_vit_patches_of_auto(side, patch, grid):
    encoder = ViTEncoder((1, side, side))
    assert encoder.patch_size == (patch, patch)
    assert encoder.grid == (grid, grid)


def test_vit_of_oblong_patches():
    encoder = ViTEncoder((3, 12, 20), patch_size=(3, 4), dim=8, depth=1, heads=2)
    tokens, class_token = encoder(images(2, (3, 12, 20)))
    assert encoder.grid == (4, 5)
    assert tokens.shape == (2, 20, 8)
    assert class_token.shape == (2, 8)


def test_tokens_are_ordered_row_by_row():
    encoder = ViTEncoder((1, 8, 8), dim=8).eval()
    x = images(1, (1, 8, 8))
    # Without layers a token depends on its patch alone.
    encoder.layers = nn.Sequential()
    changed = x.clone()
    changed[0, 0, 2:4, 6:8] += 1.0
    moved = (encoder(x)[0] - encoder(changed)[0]).abs().sum(-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == [1 * 4 + 3]


def test_attention_is_that_of_torch():
    encoder = ViTEncoder((1, 8, 8), dim=8, depth=1, heads=2).double()
    ours = encoder.layers[0].attention[1]
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.project_in.weight)
        theirs.in_proj_bias.copy_(ours.project_in.bias)
        theirs.out_proj.weight.copy_(ours.project_out.weight)
        theirs.out_proj.bias.copy_(ours.project_out.bias)
    z = images(3, (5, 8)).double()
    torch.testing.assert_close(ours(z), theirs(z, z, z, need_weights=False)[0])


@pytest.mark.parametrize("make", ENCODERS)
def test_every_parameter_learns(make):
    encoder = make((3, 8, 8)).double()
    output = encoder(images(4, (3, 8, 8)).double())
    parts = output if isinstance(output, tuple) else (output,)
    sum(part.cos().sum() for part in parts).backward()
    for name, parameter in encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("make", ENCODERS)
def test_a_row_does_not_depend_on_its_company_in_evaluation(make):
    encoder = make((1, 8, 8)).eval()
    x = images(16, (1, 8, 8))
    alone, together = tokens_of(encoder(x[:1])), tokens_of(encoder(x))
    torch.testing.assert_close(alone[0], together[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", ENCODERS)
def test_state_dict_and_copy_keep_the_bits(make):
    x = images(2, (1, 8, 8))
    encoder = make((1, 8, 8))
    tokens_of(encoder(x))
    encoder.eval()
    rebuilt = make((1, 8, 8)).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    for other in (rebuilt, copy.deepcopy(encoder)):
        assert torch.equal(tokens_of(other(x)), tokens_of(encoder(x)))


@pytest.mark.parametrize("make", ENCODERS)
def test_export_with_a_dynamic_batch(make):
    encoder = make((1, 8, 8)).eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        encoder, (images(3, (1, 8, 8)),), dynamic_shapes=({0: batch},)
    )
    x = images(5, (1, 8, 8), seed=1)
    torch.testing.assert_close(
        tokens_of(program.module()(x)), tokens_of(encoder(x)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("name", "dim"), [("conv", 32), ("vit", 48)])
def test_named_encoders_know_their_grid(name, dim):
    encoder = make_encoder(name, (1, 8, 8))
    assert (encoder.grid, encoder.n_sites, encoder.dim) == ((4, 4), 16, dim)


@pytest.mark.parametrize(("make", "least"), [(ConvEncoder, 0.97), (ViTEncoder, 0.94)])
def test_a_softmax_head_learns_digits(make, least):
    X, y = load_digits(return_X_y=True)
    x = torch.tensor(X, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 0.6
    target = torch.tensor(y)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = make((1, 8, 8))
        head = nn.Linear(encoder.dim, 10)
        parameters = [*encoder.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=3e-3)
        train, test = torch.randperm(len(x)).split([1200, len(x) - 1200])
        for epoch in range(10):
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * (1 - epoch / 10)
            for rows in train[torch.randperm(1200)].split(64):
                scores = head(tokens_of(encoder(x[rows])).mean(1))
                optimizer.zero_grad()
                nn.functional.cross_entropy(scores, target[rows]).backward()
                optimizer.step()
    encoder.eval()
    with torch.no_grad():
        scores = head(tokens_of(encoder(x[test])).mean(1))
    assert (scores.argmax(1) == target[test]).float().mean() >= least


@pytest.mark.parametrize("make", ENCODERS)
@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 0), (1, 8.0, 8), (1, 8, 3)])
def test_errors_of_image_shape(make, shape):
    with pytest.raises(ValueError, match=r"image_shape|at least 4 rows"):
        make(shape)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pool": 4}, r"8x8 pixels are too small for pool=4: they need at least 16"),
        ({"pool": -1}, r"'pool' parameter must be 'auto' or an integer.*Got -1"),
        ({"pool": "max"}, r"Got 'max'"),
        ({"channels": ()}, r"'channels' parameter .* Got \(\)"),
        ({"dim": 0}, r"'dim' parameter"),
    ],
)
def test_errors_of_conv(parameters, message):
    with pytest.raises(ValueError, match=message):
        ConvEncoder((1, 8, 8), **parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"patch_size": 3},
            r"must divide the images' height and width. Got 3 for .*8x8",
        ),
        ({"patch_size": 0}, r"'patch_size' parameter must be 'auto'.*Got 0"),
        ({"patch_size": "large"}, r"Got 'large'"),
        ({"heads": 5}, r"multiple of 'heads'. Got dim=48 and heads=5"),
        ({"depth": 0}, r"depth"),
    ],
)
def test_errors_of_vit(parameters, message):
    with pytest.raises(ValueError, match=message):
        ViTEncoder((1, 8, 8), **parameters)


def test_auto_patches_of_a_prime_side():
    with pytest.raises(ValueError, match=r"a side of 31 pixels: set 'patch_size'"):
        ViTEncoder((1, 31, 31))
