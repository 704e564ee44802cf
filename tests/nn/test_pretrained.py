"""Backbones of transformers and timm as encoders, with small random weights."""

import copy
import json
import pickle
import sys

import pytest
import torch
from torch import nn

from skproto.nn._tokens import grid_of_tokens
from skproto.nn.encoders import make_encoder
from skproto.nn.pretrained import (
    IMAGENET,
    TimmBackbone,
    TransformersBackbone,
    adapt_backbone,
    from_transformers,
)

try:
    import transformers
except ImportError:
    transformers = None

needs_transformers = pytest.mark.skipif(
    transformers is None,
    reason="needs transformers, an optional extra that the test extra installs",
)

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}
STAGES = {"hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 1, 1]}
WINDOWS = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
DINO = {key: value for key, value in VIT.items() if key != "intermediate_size"}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def config_of(name, **parameters):
    if not hasattr(transformers, name):
        pytest.skip(f"this version of transformers has no {name}")
    return getattr(transformers, name)(**parameters)


def vit(**parameters):
    return config_of("ViTConfig", **{**VIT, **parameters})


MAPS = [
    ("ResNetConfig", {**STAGES, "embedding_size": 8, "layer_type": "basic"}, 24),
    ("ConvNextConfig", STAGES, 24),
]
TOKENS = [
    ("ViTConfig", VIT, True),
    ("DeiTConfig", VIT, True),
    ("Dinov2Config", {**DINO, "mlp_ratio": 1}, True),
    ("Dinov2WithRegistersConfig", {**DINO, "mlp_ratio": 1}, True),
    ("DINOv3ViTConfig", {**VIT, "num_register_tokens": 3}, True),
    ("BeitConfig", VIT, True),
    ("CLIPVisionConfig", VIT, True),
    ("SiglipVisionConfig", VIT, False),
    ("SwinConfig", WINDOWS, False),
]


@needs_transformers
@pytest.mark.parametrize(("name", "parameters", "dim"), MAPS)
@pytest.mark.parametrize("side", [64, 96])
def test_convolutional_models_give_maps(name, parameters, dim, side):
    encoder = from_transformers(config_of(name, **parameters)).eval()
    z = encoder(torch.randn(2, 3, side, side))
    assert z.shape == (2, dim, side // 32, side // 32)
    assert encoder.grid == (side // 32, side // 32)
    assert encoder.normalization is None


@needs_transformers
@pytest.mark.parametrize(("name", "parameters", "has_class"), TOKENS)
@pytest.mark.parametrize("sides", [(32, 32), (64, 64), (32, 48)])
def test_transformers_give_the_tokens_of_patches(name, parameters, has_class, sides):
    encoder = from_transformers(config_of(name, **parameters)).eval()
    z = encoder(torch.randn(2, 3, *sides))
    grid = (sides[0] // 8, sides[1] // 8)
    tokens = z[0] if has_class else z
    assert encoder.grid == grid
    assert tokens.shape == (2, grid[0] * grid[1], 16)
    if has_class:
        assert z[1].shape == (2, 16)


@needs_transformers
@pytest.mark.parametrize(("name", "parameters", "has_class"), TOKENS[:4])
def test_tokens_are_those_of_the_model(name, parameters, has_class):
    encoder = from_transformers(config_of(name, **parameters)).eval()
    x = torch.randn(2, 3, 32, 32)
    tokens, class_token = encoder(x)
    states = encoder.model(pixel_values=x).last_hidden_state
    assert torch.equal(tokens, states[:, -16:])
    assert torch.equal(class_token, states[:, 0])


@needs_transformers
def test_a_token_changes_most_with_its_own_patch():
    encoder = from_transformers(vit(num_hidden_layers=1)).eval()
    x = torch.zeros(1, 3, 32, 32)
    changed = x.clone()
    changed[:, :, 8:16, 24:32] += 3.0
    moved = (encoder(x)[0] - encoder(changed)[0]).abs().sum(-1)[0]
    assert moved.argmax() == 1 * 4 + 3


@needs_transformers
def test_an_earlier_layer_has_more_places():
    config = config_of(MAPS[0][0], **MAPS[0][1])
    encoder = from_transformers(config, layer=-2).eval()
    assert encoder(torch.randn(2, 3, 64, 64)).shape == (2, 16, 4, 4)
    with pytest.raises(ValueError, match=r"layer=9 is not among its 5 hidden states"):
        from_transformers(config, layer=9)(torch.randn(2, 3, 64, 64))


@needs_transformers
def test_small_grey_images_are_resized_and_repeated():
    encoder = from_transformers(vit(), resize=(32, 32)).eval()
    x = torch.randn(2, 1, 8, 8)
    tokens, _ = encoder(x)
    assert encoder.grid == (4, 4)
    larger = nn.functional.interpolate(
        x, (32, 32), mode="bilinear", align_corners=False, antialias=True
    )
    torch.testing.assert_close(tokens, encoder(larger.repeat(1, 3, 1, 1))[0])


@needs_transformers
def test_images_that_do_not_fit():
    encoder = from_transformers(vit()).eval()
    with pytest.raises(ValueError, match=r"failed on images of 4x4 pixels and 3 chan"):
        encoder(torch.randn(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"5 channels; 'resize'"):
        encoder(torch.randn(2, 5, 32, 32))
    with pytest.raises(ValueError, match=r"Got a batch of shape \(2, 64\)"):
        encoder(torch.randn(2, 64))
    # The model itself would leave out what lies beyond the last whole patch.
    with pytest.raises(
        ValueError, match=r"8x8 pixels, which do not cover .* 32x36 pix"
    ):
        encoder(torch.randn(2, 3, 32, 36))


@needs_transformers
@pytest.mark.parametrize(
    ("name", "parameters", "n_sites", "dim"),
    [("ViTConfig", VIT, 16, 16), (MAPS[0][0], MAPS[0][1], 1, 24)],
)
def test_as_the_encoder_of_an_estimator(name, parameters, n_sites, dim):
    encoder = make_encoder(
        from_transformers(config_of(name, **parameters)), (3, 32, 32)
    )
    assert (encoder.n_sites, encoder.dim) == (n_sites, dim)
    assert encoder.grid == (round(n_sites**0.5),) * 2
    z = encoder(torch.randn(2, 3, 32, 32))
    z.square().sum().backward()
    assert any(p.grad is not None for p in encoder.parameters())


@needs_transformers
def test_copies_and_state_dicts_keep_the_bits():
    encoder = from_transformers(vit()).eval()
    x = torch.randn(2, 3, 32, 32)
    rebuilt = from_transformers(vit()).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), rebuilt):
        assert torch.equal(other(x)[0], encoder(x)[0])


@pytest.fixture
def saved(tmp_path):
    """A small ViT in a folder, as save_pretrained writes it."""
    model = transformers.AutoModel.from_config(vit()).eval()
    model.save_pretrained(tmp_path)
    return model, tmp_path


def write_processor(folder, **settings):
    settings = {"image_processor_type": "ViTImageProcessor", **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


@needs_transformers
def test_a_folder_gives_its_weights_and_normalisation(saved):
    model, folder = saved
    write_processor(folder, image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25])
    encoder = from_transformers(folder, local_files_only=True).eval()
    assert encoder.normalization == ((0.5,) * 3, (0.25,) * 3)
    x = torch.randn(2, 3, 32, 32)
    expected = model(pixel_values=x).last_hidden_state
    torch.testing.assert_close(encoder(x)[0], expected[:, 1:])


@needs_transformers
def test_normalisation_without_a_processor_and_without_normalising(saved):
    _, folder = saved
    assert from_transformers(folder, local_files_only=True).normalization == IMAGENET
    write_processor(folder, do_normalize=False)
    encoder = from_transformers(folder, local_files_only=True)
    assert encoder.normalization == ((0.0,) * 3, (1.0,) * 3)


@needs_transformers
def test_a_name_without_its_weights(saved):
    model, folder = saved
    encoder = from_transformers(folder, pretrained=False, local_files_only=True)
    assert encoder.normalization is None
    assert encoder.model.config.hidden_size == 16
    ours, theirs = encoder.model.state_dict(), model.state_dict()
    assert any(not torch.equal(ours[key], theirs[key]) for key in theirs)


@needs_transformers
def test_an_image_part_is_taken_out_of_a_model_of_images_and_text():
    text = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    text |= {"vocab_size": 10, "num_hidden_layers": 1}
    config = config_of("CLIPConfig", text_config=text, vision_config=VIT)
    whole = transformers.AutoModel.from_config(config)
    for encoder in (from_transformers(config), adapt_backbone(whole)):
        tokens, class_token = encoder.eval()(torch.randn(2, 3, 32, 32))
        assert tokens.shape == (2, 16, 16)
        assert class_token.shape == (2, 16)


@needs_transformers
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stored_in_half_precision_are_used_in_float32(saved, dtype):
    model, folder = saved
    model.to(dtype).save_pretrained(folder)
    encoder = from_transformers(folder, local_files_only=True)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert encoder(torch.randn(2, 3, 32, 32))[0].dtype == torch.float32


@needs_transformers
@pytest.mark.parametrize(
    ("name", "config", "parameters", "shape"),
    [
        ("ViTForImageClassification", "ViTConfig", VIT, (2, 16, 16)),
        ("ResNetForImageClassification", *MAPS[0][:2], (2, 24, 1, 1)),
        ("ResNetBackbone", *MAPS[0][:2], (2, 24, 1, 1)),
    ],
)
def test_a_head_is_left_out_and_a_backbone_gives_its_last_map(
    name, config, parameters, shape
):
    model = getattr(transformers, name)(config_of(config, **parameters))
    z = adapt_backbone(model).eval()(torch.randn(2, 3, 32, 32))
    tokens = z[0] if isinstance(z, tuple) else z
    assert tokens.shape == shape


@needs_transformers
def test_the_head_of_an_image_part():
    text = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    text |= {"vocab_size": 10, "num_hidden_layers": 1}
    config = config_of("CLIPConfig", text_config=text, vision_config=VIT)
    model = transformers.CLIPForImageClassification(config)
    assert adapt_backbone(model)(torch.randn(2, 3, 32, 32))[0].shape == (2, 16, 16)


@needs_transformers
def test_a_model_that_hides_patches_at_random_is_refused():
    encoder = from_transformers(config_of("ViTMAEConfig", **VIT))
    with pytest.raises(ValueError, match=r"hides patches at random.* such as ViTModel"):
        encoder(torch.randn(2, 3, 32, 32))


@needs_transformers
def test_a_first_token_without_a_parameter_is_a_class_token():
    config = config_of("DINOv3ConvNextConfig", **STAGES)
    encoder = from_transformers(config).eval()
    x = torch.randn(2, 3, 64, 64)
    tokens, class_token = encoder(x)
    states = encoder.model(pixel_values=x).last_hidden_state
    assert encoder.grid == (2, 2)
    assert torch.equal(tokens, states[:, 1:])
    assert torch.equal(class_token, states[:, 0])


@needs_transformers
def test_a_class_token_of_the_head_alone_is_not_a_patch_less():
    encoder = from_transformers(config_of("Aimv2VisionConfig", **VIT)).eval()
    z = encoder(torch.randn(2, 3, 32, 32))
    tokens = z[0] if isinstance(z, tuple) else z
    assert tokens.shape == (2, 16, 16)
    assert encoder.grid == (4, 4)


@needs_transformers
def test_the_message_about_a_large_encoder_is_short():
    with pytest.raises(ValueError, match="TransformersBackbone failed") as caught:
        make_encoder(from_transformers(vit()), (3, 4, 4))
    assert len(str(caught.value)) < 500


@needs_transformers
def test_a_model_that_cannot_be_found(tmp_path):
    with pytest.raises(
        OSError, match=r"model 'nobody/absent' could not be loaded: check the name"
    ):
        from_transformers("nobody/absent", cache_dir=tmp_path, local_files_only=True)


@needs_transformers
def test_a_model_of_text_is_refused():
    config = config_of(
        "BertConfig",
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        vocab_size=10,
    )
    with pytest.raises(ValueError, match=r"takes 'pixel_values'. Got BertModel"):
        from_transformers(config)


def test_the_message_where_transformers_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError) as caught:
        from_transformers("facebook/dinov2-small")
    assert str(caught.value) == (
        "from_transformers needs transformers: pip install 'skproto[transformers]'"
    )


@needs_transformers
def test_a_plain_model_of_transformers_is_adapted():
    model = transformers.AutoModel.from_config(vit())
    encoder = adapt_backbone(model)
    assert isinstance(encoder, TransformersBackbone)
    assert encoder.model is model
    assert adapt_backbone(encoder) is encoder


# timm needs torchvision, of which not every build of torch has a match, so that the
# tests cannot ask for it. These stand-ins have the part of its models' interface that
# the adapter uses: names, shapes and layout are those of timm 1.0.


class TimmViT(nn.Module):
    """A vision transformer of timm: class token, two registers, then patches."""

    num_prefix_tokens = 3
    num_features = 6
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 6, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 6))
        self.reg_token = nn.Parameter(torch.randn(1, 2, 6))
        self.head = nn.Linear(6, 1000)

    def forward_features(self, x):
        if x.shape[2:] != (16, 16):
            raise AssertionError(f"Input height ({x.shape[2]}) doesn't match (16).")
        z = self.patch_embed(x).flatten(2).mT
        first = [t.expand(len(x), -1, -1) for t in (self.cls_token, self.reg_token)]
        return torch.cat([*first, z], 1)

    def forward(self, x):
        return self.head(self.forward_features(x)[:, 0])


class TimmConvNet(nn.Module):
    """A convolutional net of timm; with `layout`, one of its window transformers."""

    num_features = 5

    def __init__(self, layout=None):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 4, 4)
        self.head = nn.Linear(5, 1000)
        if layout is not None:
            self.output_fmt = layout

    def forward_features(self, x):
        z = self.stem(x)
        return z.permute(0, 2, 3, 1) if hasattr(self, "output_fmt") else z

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))


class TimmFeaturesOnly(nn.Module):
    """What ``timm.create_model(..., features_only=True)`` returns."""

    feature_info = [{"reduction": 2}, {"reduction": 4}]

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 7, 2, 2)])

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class OwnDINOv2(nn.Module):
    """DINOv2's own code: `forward_features` returns a dictionary."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 6, 4, 4)

    def forward_features(self, x):
        z = self.patch_embed(x).flatten(2).mT
        return {"x_norm_clstoken": z.mean(1), "x_norm_patchtokens": z}


def test_tokens_of_a_timm_transformer():
    model = TimmViT()
    encoder = adapt_backbone(model)
    x = torch.randn(2, 3, 16, 16)
    tokens, class_token = encoder(x)
    assert isinstance(encoder, TimmBackbone)
    assert torch.equal(tokens, model.patch_embed(x).flatten(2).mT)
    assert torch.equal(class_token, model.cls_token[0].expand(2, -1))
    assert encoder.grid == (4, 4)
    assert encoder.normalization == ((0.5,) * 3, (0.2,) * 3)


def test_the_size_that_a_timm_transformer_refuses():
    with pytest.raises(ValueError, match=r"TimmViT failed .* doesn't match \(16\)"):
        adapt_backbone(TimmViT())(torch.randn(2, 3, 20, 20))
    resized = TimmBackbone(TimmViT(), resize=16)
    assert resized(torch.randn(2, 1, 20, 20))[0].shape == (2, 16, 6)


@pytest.mark.parametrize("layout", [None, "NHWC"])
def test_maps_of_timm_have_channels_first(layout):
    model = TimmConvNet(layout)
    x = torch.randn(2, 3, 16, 24)
    encoder = adapt_backbone(model)
    assert torch.equal(encoder(x), model.stem(x))
    assert encoder.grid == (4, 6)


def test_the_last_of_several_maps():
    encoder = adapt_backbone(TimmFeaturesOnly())
    assert encoder(torch.randn(2, 3, 16, 16)).shape == (2, 7, 4, 4)


def test_a_dictionary_of_tokens():
    encoder = adapt_backbone(OwnDINOv2())
    tokens, class_token = encoder(torch.randn(2, 3, 16, 16))
    assert tokens.shape == (2, 16, 6)
    assert class_token.shape == (2, 6)
    assert encoder.grid == (4, 4)


def test_other_modules_are_passed_on():
    module = nn.Conv2d(3, 4, 3)
    assert adapt_backbone(module) is module


def test_an_output_that_is_neither_map_nor_tokens():
    class Wrong(nn.Module):
        def forward_features(self, x):
            return {"logits": x}

    with pytest.raises(ValueError, match=r"Wrong must return a map .* Got dict"):
        adapt_backbone(Wrong())(torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("resize", [0, (8,), (8, 0), (8.0, 8)])
def test_errors_of_resize(resize):
    with pytest.raises(ValueError, match="'resize' parameter must be None"):
        TimmBackbone(TimmViT(), resize=resize)


@pytest.mark.parametrize(
    ("n_tokens", "sides", "patch", "grid"),
    [
        (16, (32, 32), 8, (4, 4)),
        (16, (32, 32), 4, (4, 4)),  # merged after a patch of 4
        (16, (28, 28), 4, (4, 4)),  # 7x7 patches, merged with padding
        (6, (20, 30), (10, 10), (2, 3)),
        (4, (30, 30), 14, (2, 2)),
        (1, (8, 8), None, (1, 1)),
        (197, (32, 32), None, None),
    ],
)
def test_grids(n_tokens, sides, patch, grid):
    assert grid_of_tokens(n_tokens, sides, patch) == grid
