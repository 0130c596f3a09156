"""Every family that draws maps: any size, save and load, the same maps from every engine."""

import functools

import numpy as np
import pytest
import torch

from nucleate.errors import ConfigError
from nucleate.models.export import Deploy, export_onnx, round_weights, write_weights
from nucleate.models.families import MODELS, build, parameter_count

HEADS = ["foreground", "distance"]
SMALL = {
    "mtl": {"widths": (8, 12, 16), "window": 4, "attention_heads": 2},
    "unet": {"widths": (8, 12, 16)},
    "resunet": {"widths": (8, 12, 16)},
    "linknet": {},
    "encoder_unet": {"encoder": "resnet18", "decoder_widths": (32, 16, 16, 8, 8)},
    "encoder_fpn": {"encoder": "resnet18", "pyramid_width": 32, "width": 64},
}
VARIANTS = [
    *[("mtl", v) for v in ({"stem": 4}, {"skips": "add"}, {"blocks": (1, 2, 1)})],
    ("unet", {"norm": "batch", "stem": 2}),
    ("unet", {"mean": (0.1, 0.2, 0.3), "sd": (0.2, 0.3, 0.4)}),
    ("resunet", {}), ("linknet", {}),
    ("encoder_unet", {"encoder": "tu-tf_efficientnet_lite0", "levels": 4,
                      "decoder_widths": (16, 12, 8)}),
    ("encoder_fpn", {}),
]  # fmt: skip
MORE_VARIANTS = [
    *[("mtl", v) for v in (
        {"stem": 1}, {"stem": 2}, {"dilations": (1,)}, {"transformer_layers": 0},
        {"gates": False}, {"blocks": 1}, {"decoder_blocks": 2},
    )],
    ("unet", {}), ("unet", {"upsampling": "transposed"}),
    ("resunet", {"upsampling": "bilinear", "stem": 4}), ("linknet", {"activations": False}),
    ("encoder_unet", {}), ("encoder_unet", {"encoder": "tu-convnext_atto"}),
    ("encoder_unet", {"levels": 4, "decoder_widths": (16, 8), "mean": (0.5, 0.5, 0.5)}),
    ("encoder_fpn", {"mean": (0, 0, 0), "sd": (1, 1, 1)}),
]  # fmt: skip
PUBLISHED = [
    ("unet", {"widths": (64, 128, 256, 512)}, 7_782_913),  # Histology-NucleiSeg, small
    ("unet", {}, 31_378_945),  # Histology-NucleiSeg, full
    ("unet", {"upsampling": "transposed"}, 31_031_745),  # Nuclei-Segmentation
    # no figures were published for these; they are what Nuclei-Segmentation's description gives
    ("resunet", {}, 32_439_175),
    ("linknet", {"activations": False}, 21_799_233),
]


def _network(family, **changes):
    torch.manual_seed(0)
    return build(family, HEADS, {**SMALL[family], **changes}).eval()


_unchanged = functools.cache(_network)  # for tests that change nothing of it


def test_every_family_is_tested():
    assert SMALL.keys() | {"mask_rcnn"} == MODELS.keys()  # which test_mask_rcnn.py tests


@pytest.mark.parametrize("family", sorted(SMALL))
@pytest.mark.parametrize("size", [(1, 1), (33, 20), (64, 64), (70, 131)])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_size_in_the_same_size_out(family, size, batch):
    maps = _unchanged(family)(torch.zeros(batch, 3, *size))
    assert list(maps) == HEADS
    assert all(m.shape == (batch, *size) for m in maps.values())


@pytest.mark.parametrize("family", sorted(SMALL))
def test_bytes_and_floats_give_the_same(family):
    image = torch.randint(0, 256, (1, 3, 48, 48), dtype=torch.uint8)
    network = _unchanged(family)
    with torch.no_grad():
        torch.testing.assert_close(network(image), network(image.float()))


@pytest.mark.parametrize("family", sorted(SMALL))
def test_every_weight_learns(family):
    network = build(family, HEADS, SMALL[family]).train()
    maps = network(torch.randint(0, 256, (2, 3, 64, 64)).float())
    sum((m**2).mean() for m in maps.values()).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("family", sorted(SMALL))
def test_bf16_stays_close(family):
    network = _unchanged(family)
    image = torch.randint(0, 256, (1, 3, 64, 64)).float()
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(image)
    for head in HEADS:
        assert (torch.sigmoid(exact[head]) - torch.sigmoid(rough[head].float())).abs().max() < 0.05


@pytest.mark.parametrize(("family", "arguments", "count"), PUBLISHED, ids=str)
def test_the_published_networks_have_their_size(family, arguments, count):
    with torch.device("meta"):  # sizes alone
        assert parameter_count(build(family, ["foreground"], arguments)) == count


@pytest.mark.parametrize("family", sorted(SMALL))
def test_weights_survive_a_file(tmp_path, family):
    from safetensors.torch import load_file, save_file

    one, other = _unchanged(family), build(family, HEADS, SMALL[family]).eval()
    save_file({k: v.contiguous() for k, v in one.state_dict().items()}, tmp_path / "w.safetensors")
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    image = torch.randint(0, 256, (1, 3, 40, 40)).float()
    with torch.no_grad():
        for head in HEADS:
            assert torch.equal(one(image)[head], other(image)[head])


@pytest.mark.parametrize("family", sorted(SMALL))
def test_no_head_is_refused(family):
    with pytest.raises(ConfigError, match="head"):
        build(family, [], SMALL[family])


@pytest.mark.parametrize(
    ("family", "arguments", "said"),
    [
        ("unet", {"stem": 3}, "stem"),
        ("unet", {"widths": (8,)}, "widths"),
        ("unet", {"norm": "layer"}, "norm"),
        ("unet", {"sd": (0, 1, 1)}, "sd"),
        ("unet", {"depth": 3}, "no 'depth'"),
        ("encoder_unet", {"encoder": "resnet35"}, "Unknown encoder 'resnet35'"),
        ("encoder_unet", {"decoder_widths": (8, 8)}, "decoder_widths"),
        ("encoder_unet", {"levels": 6}, "2 to 5 levels"),
        ("encoder_unet", {"levels": 3, "decoder_widths": ()}, "decoder_widths"),
        ("mask_rcnn", {}, "only the head instances"),
    ],
)
def test_nonsense_is_refused(family, arguments, said):
    with pytest.raises(ConfigError, match=said):
        build(family, HEADS, arguments)


@pytest.mark.parametrize(
    ("family", "changes"),
    [*VARIANTS, *(pytest.param(*variant, marks=pytest.mark.slow) for variant in MORE_VARIANTS)],
    ids=str,
)
def test_torch_onnxruntime_and_openvino_agree(tmp_path, family, changes):
    import onnxruntime
    import openvino

    network = _network(family, **changes)
    path = tmp_path / "m.onnx"
    export_onnx(network, HEADS, network.align_px, path)
    a = network.align_px
    image = np.random.default_rng(0).integers(0, 256, (2, 2 * a, 3 * a, 3), np.uint8)
    with torch.no_grad():
        expected = [m.numpy() for m in Deploy(network, HEADS)(torch.from_numpy(image))]
    session = onnxruntime.InferenceSession(str(path))
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for other in (session.run(HEADS, {"image": image}), compiled(image)):
        for i, head in enumerate(HEADS):
            result = other[i] if isinstance(other, list) else other[head]
            np.testing.assert_allclose(result, expected[i], atol=2e-5)


def test_files_hold_16_bits_and_lose_nothing(tmp_path):
    import onnxruntime
    from safetensors.numpy import load_file

    network = _network("mtl", widths=(32, 48), dilations=(1,), transformer_layers=0)
    with torch.no_grad():
        network.leave.weight[0, 0] = 1e5  # beyond 16 bits
    before = network.enter[0].weight.clone()
    round_weights(network)
    assert 0 < (network.enter[0].weight - before).abs().max() < 1e-3
    assert network.leave.weight[0, 0] == 1e5
    a = network.align_px
    export_onnx(network, HEADS, a, tmp_path / "half.onnx")
    export_onnx(network, HEADS, a, tmp_path / "whole.onnx", fold=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("half.onnx", "whole.onnx")]
    assert sizes[0] < 0.65 * sizes[1]
    write_weights(tmp_path / "w.safetensors", network.state_dict())
    arrays = load_file(tmp_path / "w.safetensors")
    assert arrays["enter.0.weight"].dtype == np.float16
    assert arrays["leave.weight"].dtype == arrays["enter.1.running_var"].dtype == np.float32
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(arrays[name].astype(value.numpy().dtype), value.numpy())
    image = np.random.default_rng(0).integers(0, 256, (1, 2 * a, 3 * a, 3), np.uint8)
    with torch.no_grad():
        expected = [m.numpy() for m in Deploy(network, HEADS)(torch.from_numpy(image))]
    for file in ("half.onnx", "whole.onnx"):
        found = onnxruntime.InferenceSession(tmp_path / file).run(HEADS, {"image": image})
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


def test_each_ingredient_can_be_switched_off_and_changes_the_network():
    full = parameter_count(_network("mtl"))
    assert parameter_count(_network("mtl", transformer_layers=0)) < full
    assert parameter_count(_network("mtl", gates=False)) < full
    assert parameter_count(_network("mtl", skips="add")) < full
    image = torch.randint(0, 256, (1, 3, 96, 96)).float()
    plain = _network("mtl", dilations=(1,))
    with torch.no_grad():
        assert not torch.allclose(plain(image)["distance"], _network("mtl")(image)["distance"])


def test_tiles_agree_when_aligned():
    """Attention stays in windows of the level-0 grid: far from a tile's edge all is the same."""
    network = _network("mtl", widths=(8, 12), blocks=1, dilations=(1,), window=4)
    a = network.align_px
    assert a == 16
    image = torch.randint(0, 256, (1, 3, 8 * a, 8 * a)).float()
    with torch.no_grad():
        whole = network(image)["distance"]
        tile = network(image[..., 2 * a : 8 * a, a : 8 * a])["distance"]
        shifted = network(image[..., a // 2 :, a // 2 :])["distance"]
    inner = slice(2 * a, 4 * a)
    torch.testing.assert_close(
        tile[..., inner, inner], whole[..., 4 * a : 6 * a, 3 * a : 5 * a], atol=1e-5, rtol=1e-4
    )
    # off the grid the windows fall elsewhere: alignment is needed
    assert not torch.allclose(
        shifted[..., inner, inner],
        whole[..., inner.start + a // 2 : inner.stop + a // 2,
              inner.start + a // 2 : inner.stop + a // 2], atol=1e-5,
    )  # fmt: skip


def test_dilated_kernels_do_not_outgrow_a_crop():
    """At a quarter of the resolution the coarsest of four levels has 32 pixels per pixel."""
    network = build("mtl", HEADS, {"widths": (8, 12, 16, 24), "stem": 4, "attention_heads": 2})
    used = [[c.dilation[0] for c in row[0].branches] for row in network.encoder]
    assert used == [[1, 2, 3], [1, 2, 3], [1, 2], [1]]
    assert [[c.dilation[0] for c in row[0].branches] for row in network.decoder] == used[:-1]
