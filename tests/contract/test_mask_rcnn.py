"""Mask R-CNN: what every family promises, for a network that finds boxes and masks."""

import numpy as np
import pytest
import torch

from nucleate.errors import ConfigError
from nucleate.evaluation.metrics.instance import matches
from nucleate.evaluation.metrics.matching import overlap
from nucleate.geometry.labels import largest_pieces
from nucleate.losses import OWN_LOSSES
from nucleate.mask_nms import OUTPUTS, mask_nms
from nucleate.models import mask_rcnn
from nucleate.models.export import Deploy, export_onnx
from nucleate.models.families import build, flops_per_pixel
from nucleate.models.mask_rcnn import _truth
from nucleate.models.mask_rcnn_stages import _inside
from nucleate.postprocess import flat
from tests.errors import says
from tests.synthetic import tissue

pytestmark = pytest.mark.usefixtures("narrow_detector")
SMALL = {"encoder": "resnet18", "proposals": (200, 100), "detections": 40, "min_score": 0.0}


def _network(**changes):
    torch.manual_seed(0)
    return build("mask_rcnn", ["instances"], {**SMALL, **changes}).eval()


def _batch(count=2, edge=128):
    pairs = [tissue(edge, edge, 30, seed) for seed in range(count)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    nuclei = torch.from_numpy(np.stack([labels for _, labels in pairs]).astype(np.float32))
    return images, nuclei, torch.zeros(nuclei.shape, dtype=torch.bool)


@pytest.mark.parametrize(
    ("size", "arguments"),
    [
        ((1, 1), {}),
        ((33, 20), {"enlarge": 1.5}),
        ((70, 131), {"norm": "batch", "classes": 6}),
    ],
)
def test_any_size(size, arguments):
    with torch.no_grad():
        found = _network(**arguments).maps(torch.zeros(2, 3, *size))
    count = found["scores"].shape[1]
    assert list(found) == list(OUTPUTS)
    assert found["boxes"].shape == (2, count, 4)
    assert found["masks"].shape == (2, count, 28, 28)
    if count:
        assert found["boxes"][..., 0::2].max() <= size[1] + 0.5  # the frames of the masks
        assert found["boxes"][..., 1::2].max() <= size[0] + 0.5
        assert 0 <= found["scores"].min() <= found["scores"].max() <= 1


def test_nothing_found_is_legal():
    with torch.no_grad():
        found = _network(min_score=0.999).maps(torch.zeros(2, 3, 64, 64))
    assert [tuple(found[name].shape) for name in OUTPUTS] == [(2, 0, 4), (2, 0), (2, 0, 28, 28)]


@pytest.mark.parametrize("norm", ["group", pytest.param("batch", marks=pytest.mark.slow)])
def test_every_weight_learns(norm):
    network = _network(norm=norm).train()
    losses = network.losses(*_batch())
    assert losses.keys() == set(OWN_LOSSES["instances"])
    torch.stack(list(losses.values())).sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("half", [False, True])
def test_losses_are_finite_also_in_half_precision_and_without_nuclei(half):
    network = _network().train()
    images, nuclei, ignore = _batch(edge=256)
    nuclei[1] = 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for seed in range(3 if half else 1):
            torch.manual_seed(seed)
            losses = network.losses(images, nuclei, ignore)
            assert all(torch.isfinite(loss) for loss in losses.values())
            empty = network.losses(images, nuclei * 0, ignore)
            assert all(torch.isfinite(loss) for loss in empty.values())


def test_losses_are_there_in_evaluation_and_change_nothing():
    network = _network()
    with torch.no_grad():
        assert set(network.losses(*_batch())) == set(OWN_LOSSES["instances"])
    assert not any(part.training for part in network.modules())


@pytest.mark.slow
def test_it_learns_one_image():
    """A few steps on one image halve the losses that chance does not decide."""
    network = _network(regions=64).train()
    batch = _batch(1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-4)
    sums = []
    for step in range(12):
        torch.manual_seed(step)
        loss = torch.stack(list(network.losses(*batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        sums.append(float(loss.detach()))
    assert np.mean(sums[-3:]) < 0.7 * sums[0]


def test_masks_are_drawn_where_they_were_learned():
    """The targets of torchvision, drawn by our decoder, are the nuclei that they were made of."""
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    _, labels = tissue(256, 256, 60, 2)
    labels = largest_pieces(labels)
    truth = _truth(torch.from_numpy(labels).float(), torch.zeros(256, 256))
    boxes = truth["boxes"]
    masks = project_masks_on_boxes(
        truth["masks"][:, :].float(), boxes, torch.arange(len(boxes)), 28
    )
    found = {"boxes": boxes, "scores": torch.ones(len(boxes)), "masks": masks[:, None],
             "labels": torch.ones(len(boxes))}  # fmt: skip
    maps = {name: m.numpy() for name, m in _network()._nuclei(found).items()}
    thresholds = {"score": 0.5, "mask": 0.5, "overlap": 1.0, "min_area": 1}
    drawn = flat(mask_nms(maps, thresholds, labels.shape))
    tp, _, fn, iou = matches(overlap(labels, drawn), 0.5)
    assert fn <= 0.02 * tp
    assert iou / tp > 0.95  # half a pixel off: 0.89


def test_the_levels_do_not_depend_on_the_first_image():
    images = torch.randint(0, 256, (1, 3, 64, 64))
    one, other = _network(), _network()
    with torch.no_grad():
        other.maps(torch.zeros(1, 3, 33, 20))
        torch.testing.assert_close(one.maps(images), other.maps(images))


@pytest.mark.parametrize("enlarge", [1.125, 1.5, 2.0])
def test_the_truth_is_enlarged_without_a_shift(enlarge, monkeypatch):
    network = _network(enlarge=enlarge).train()
    seen = []
    monkeypatch.setattr(mask_rcnn, "_truth", lambda n, v: seen.append(_truth(n, v)) or seen[-1])
    nuclei = torch.zeros(1, 64, 64)
    nuclei[:, 16:32, 8:48] = 1
    with torch.no_grad():
        network.losses(torch.zeros(1, 3, 64, 64), nuclei, nuclei > 9)
    expected = torch.tensor([[8.0, 16, 48, 32]]) * enlarge
    assert (seen[0]["boxes"] - expected).abs().max() <= 0.5


def test_a_batch_that_is_vague_as_a_whole_has_a_loss():
    images, nuclei, ignore = _batch()
    with torch.no_grad():
        losses = _network().train().losses(images, nuclei, ignore | True)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_vague_areas_are_no_background():
    network = _network().train()
    images, nuclei, ignore = _batch(1)
    vague = ignore.clone()
    vague[:, :, 64:] = True
    labels = []
    stage = network.first
    assign = type(stage).assign_targets_to_anchors

    def watched(anchors, targets):
        found = assign(stage, anchors, targets)
        labels.append(found[0][0])
        return found

    stage.assign_targets_to_anchors = watched
    with torch.no_grad():
        network.losses(images, nuclei, ignore)
        network.losses(images, nuclei, vague)
    background = [int((found == 0).sum()) for found in labels]
    assert 0.3 * background[0] < background[1] < 0.7 * background[0]


def test_a_box_is_vague_by_more_than_half():
    vague = torch.zeros(10, 10)
    vague[:, 5:] = 1
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 5, 5], [6, 6, 6, 6]])
    assert _inside(boxes, vague).tolist() == [False, True, False, False]


def test_enlarging_keeps_the_coordinates():
    """Boxes come back in pixels of the image, whatever the network enlarges it by."""
    images = _batch(1, edge=64)[0]
    for enlarge in (1.0, 1.5, 2.0):
        network = _network(enlarge=enlarge)
        with torch.no_grad():
            found = network.maps(images)
        assert found["boxes"].max() <= 64.5
        assert found["boxes"].max() > 48
        assert network.align_px * enlarge % 32 == 0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"enlarge": 1.5}, marks=pytest.mark.slow),
        pytest.param({"norm": "batch", "min_score": 0.6}, marks=pytest.mark.slow),
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"min_score": 0.6}, marks=pytest.mark.slow),
    ],
)
def test_torch_onnxruntime_and_openvino_agree(tmp_path, changes):
    import onnxruntime

    from nucleate.inference.openvino_backend import OpenVinoBackend
    from tests.conftest import oracle_card

    network = _network(**changes)
    path = tmp_path / "m.onnx"
    export_onnx(network, list(OUTPUTS), network.align_px, path)
    a = network.align_px
    images = [tissue(2 * a, 3 * a, 30, seed)[0] for seed in range(2)]
    images.append(np.full((2 * a, 3 * a, 3), 255, np.uint8))
    session = onnxruntime.InferenceSession(str(path))
    card = oracle_card(heads=["instances"], decoder="mask_nms")
    openvino = OpenVinoBackend(path, card, "f32", 1)
    batch = openvino(np.stack(images))
    deployed = Deploy(network, list(OUTPUTS))
    for i, image in enumerate(images):
        with torch.no_grad():
            expected = [m.numpy() for m in deployed(torch.from_numpy(image[None]))]
        results = session.run(list(OUTPUTS), {"image": image[None]})
        count = expected[1].shape[1]
        for k, name in enumerate(OUTPUTS):
            for other in (results[k], batch[name][i : i + 1, :count]):
                np.testing.assert_allclose(other, expected[k], atol=2e-3)
        assert not batch["scores"][i, count:].any()


def test_arithmetic_does_not_depend_on_what_is_found():
    few, many = (flops_per_pixel(_network(detections=n), 128) for n in (1, 40))
    assert few == many > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"encoder": "resnet35"}, "encoder"),
        ({"norm": "layer"}, "norm"),
        ({"enlarge": 0.5}, "enlarge"),
        ({"enlarge": 1.3}, "enlarge"),
        ({"anchors_px": (8, 16)}, "five anchors_px"),
        ({"anchors_px": (0, 8, 16, 32, 64)}, "above 0"),
        ({"ratios": ()}, "ratios"),
        ({"proposals": (10,)}, "proposals"),
        ({"detections": 0}, "detections"),
        ({"min_score": 1.0}, "min_score"),
        ({"widths": (8,)}, "no 'widths'"),
    ],
)
def test_nonsense_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        build("mask_rcnn", ["instances"], arguments)


@pytest.mark.parametrize("heads", [["foreground"], ["instances", "foreground"], []])
def test_other_heads_are_refused(heads):
    with pytest.raises(ConfigError, match=says("head", "instances")):
        build("mask_rcnn", heads, {})
    with pytest.raises(ConfigError, match="head"):
        build("unet", [*heads, "instances"], {})
