"""Pretext tasks: what is shown, what is asked, and that neither gives the answer away."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from nucleate.config import AugmentConfig
from nucleate.errors import ConfigError
from nucleate.models.families import MODELS, build, some_heads
from nucleate.pretraining.autoencoder import AutoEncoder
from nucleate.pretraining.figures import attention, nearest_patches
from nucleate.pretraining.multiscale import CLASSES, MultiScale, zoomed
from nucleate.pretraining.pretrainer import PRETEXTS
from nucleate.pretraining.relative_position import PAIRS, RelativePosition, coarsened, one_colour
from tests.synthetic import tissue

ARGUMENTS = {
    "relative_position": {"patch_px": 32, "gap_px": 8, "jitter_px": 3, "width": 16},
    "multiscale": {"view_px": 32, "width": 16},
    "autoencoder": {"window_px": 64, "width": 8},
}
DARK = AugmentConfig(
    stain=0, brightness=0, contrast=0, blur_chance=0, noise_chance=0, jpeg_chance=0
)
FAMILIES = {
    "mtl": {"widths": [8, 12], "stem": 2, "transformer_layers": 0, "dilations": [1]},
    "unet": {"widths": [8, 12, 16]},
    "resunet": {"widths": [8, 12]},
    "linknet": {},
    "encoder_unet": {"encoder": "resnet18"},
    "encoder_fpn": {"encoder": "resnet18"},
    "mask_rcnn": {"encoder": "resnet18"},
}


def _task(name, family="mtl", **changes):
    torch.manual_seed(0)
    make = PRETEXTS[name]
    network = build(family, some_heads(family), FAMILIES[family])
    return make(network, **{**ARGUMENTS[name], **changes})


def _batch(task, count=4, how="views"):
    image = tissue(256, 256, 30, seed=1)[0][: task.window_px, : task.window_px]
    rng = np.random.default_rng(5)
    return default_collate([getattr(task, how)(image, rng) for _ in range(count)])


def test_every_task_and_family_is_tested():
    assert ARGUMENTS.keys() == PRETEXTS.keys()
    assert FAMILIES.keys() == MODELS.keys()


@pytest.mark.parametrize(
    ("name", "family"),
    [
        pytest.param(
            name, family, marks=() if family == "mtl" or name == "multiscale" else pytest.mark.slow
        )
        for name in PRETEXTS
        for family in FAMILIES
    ],
)
def test_a_task_trains_the_encoder_of_any_family(name, family):
    task = _task(name, family)
    losses, scores = task(_batch(task))
    assert scores.keys() == task.chance.keys()
    assert task.score in scores
    torch.stack(list(losses.values())).sum().backward()
    encoder = task.network.encoder_state()
    still = [n for n, p in task.network.named_parameters() if n in encoder and p.grad is None]
    assert not still


@pytest.mark.parametrize("name", PRETEXTS)
def test_an_example_depends_on_its_chance_alone(name):
    task = _task(name)
    for how in ("views", "exam"):
        one, other = _batch(task, 3, how), _batch(task, 3, how)
        for key in one:
            assert torch.equal(one[key], other[key])
        shown = next(iter(one.values()))
        assert not torch.equal(shown[0], shown[1])


def test_the_pairs_of_patches_lie_as_they_say():
    cells = [(y, x) for y in range(3) for x in range(3)]
    around = [cell for cell in cells if cell != (1, 1)]
    for first, second, place in zip(*PAIRS, strict=True):
        apart = np.subtract(cells[second], cells[first]) + 1
        assert tuple(apart) == around[place]
    assert sorted(PAIRS[2]) == sorted([*range(8)] * 2)  # guessing one place is right in one of 8


@pytest.mark.parametrize("how", ["views", "exam"])
def test_patches_lie_in_their_cells_and_never_touch(how):
    """The window's red and green are its row and column, so that a patch shows where it is from."""
    task = _task("relative_position", stain=0, drop=0, coarse=0, narrower=False)
    task.light = DARK
    edge = task.window_px
    y, x = np.mgrid[:edge, :edge].astype(np.uint8)
    window = np.stack([y, x, np.zeros_like(x)], -1)
    rng, gaps = np.random.default_rng(0), []
    for _ in range(50):
        corners = getattr(task, how)(window, rng)["patches"][:, 0, 0, :2].astype(int)
        grid = corners.reshape(3, 3, 2)
        below = np.diff(grid[..., 0], axis=0) - task.patch_px
        right = np.diff(grid[..., 1], axis=1) - task.patch_px
        gaps += [*below.reshape(-1), *right.reshape(-1)]
    wide, jitter = task.gap_px, task.jitter_px
    assert min(gaps) == wide - 2 * jitter >= 0
    assert max(gaps) == wide + 2 * jitter


def test_narrow_gaps_are_for_learning_only():
    task = _task("relative_position", stain=0, drop=0, coarse=0, jitter_px=0)
    task.light = DARK
    edge = task.window_px
    x = np.broadcast_to(np.arange(edge, dtype=np.uint8)[None, :, None], (edge, edge, 3)).copy()
    rng = np.random.default_rng(0)

    def gaps(make):
        shown = [make(x, rng)["patches"][:, 0, 0, 0].astype(int) for _ in range(60)]
        return {int(s[1] - s[0]) - task.patch_px for s in shown}

    assert gaps(task.views) == set(range(task.gap_px + 1))
    assert gaps(task.exam) == {task.gap_px}


def test_relative_position_can_be_learned_where_there_is_something_to_learn():
    """A ramp of colours tells where each patch lies; a wrong class for a place could not."""
    torch.manual_seed(0)
    network = build("unet", ["foreground"], {"widths": (8, 16), "norm": "batch"})
    task = RelativePosition(network, 32, 0, True, 0, width=32, cells=1, stain=0, drop=0, coarse=0)
    task.light = DARK
    edge = task.window_px
    y, x = np.mgrid[:edge, :edge] * 255 // edge
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(task.parameters(), 3e-3)
    for _ in range(40):
        window = np.stack([y, x, np.full_like(x, rng.integers(255))], -1).astype(np.uint8)
        losses, scores = task(default_collate([task.views(window, rng) for _ in range(4)]))
        optimiser.zero_grad()
        losses["place"].backward()
        optimiser.step()
    assert scores["accuracy"][0] / scores["accuracy"][1] > 0.9


def test_one_colour_is_left():
    patch = tissue(64, 64, 10, seed=3)[0]
    found = one_colour(patch, np.random.default_rng(0))
    same = [bool((found[..., c] == patch[..., c]).all()) for c in range(3)]
    assert sum(same) == 1
    others = [c for c in range(3) if not same[c]]
    assert all(found[..., c].std() < 1.5 < patch[..., c].std() for c in others)
    assert all(abs(found[..., c].mean() - patch[..., c].mean()) < 1 for c in others)


def test_coarsened_keeps_the_mean_and_loses_detail():
    patch = tissue(64, 64, 10, seed=3)[0]
    rng = np.random.default_rng(0)
    details = []
    for _ in range(20):
        found = coarsened(patch, 100, rng)
        assert found.shape == patch.shape
        assert abs(float(found.mean()) - float(patch.mean())) < 2
        details.append(cv2.Laplacian(found, cv2.CV_32F).std())
    assert min(details) < 0.3 * cv2.Laplacian(patch, cv2.CV_32F).std()


def _sharpness(view):
    """How fine the detail is that a view shows, whatever its contrast."""
    grey = view.astype(np.float32).mean(-1)
    return float(np.log(cv2.Laplacian(grey, cv2.CV_32F).std() / grey.std()))


@pytest.mark.parametrize("blur", [1.1, 1.5, 2.2])
def test_sharpness_does_not_tell_the_zoom(blur):
    """Detail of all sizes, through a scanner's lens: what is left is the blur of the view.

    Resizing as usual gives the zoom away; the views of the task do not.
    """
    rng = np.random.default_rng(0)
    zooms, plain, guarded = [], [], []
    for _ in range(60):
        white = rng.normal(0, 1, (256, 256))
        window = cv2.GaussianBlur(128 + 60 * white, (0, 0), 0.5)
        window = np.repeat(np.clip(window, 0, 255).astype(np.uint8)[..., None], 3, 2)
        zoom = 2 ** rng.uniform(-1, 1)
        side = round(128 * zoom)
        cut = window[:side, :side]
        zooms.append(np.log2(zoom))
        plain.append(_sharpness(cv2.resize(cut, (128, 128), interpolation=cv2.INTER_LINEAR)))
        guarded.append(_sharpness(zoomed(window, zoom, 128, blur, (128, 128))))
    assert np.corrcoef(zooms, plain)[0, 1] > 0.7
    assert np.std(guarded) < 0.25 * np.std(plain)


def _traces(how, monkeypatch, count=400, view=64):
    """How much of log2 z can be given from the rhythm of the detail, where z shows in nothing else.

    1/f noise looks alike at every zoom. Kernel ridge on the spectrum of its second differences;
    half of the views are learned from, the share of variance explained is that of the others.
    """
    monkeypatch.setattr(cv2, "INTER_LANCZOS4", how)
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(2 * view)[:, None], np.fft.rfftfreq(2 * view)[None])
    frequency[0, 0] = 1
    spectra, zooms = [], rng.uniform(-1, 1, count)
    for zoom in zooms:
        noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(2 * view,) * 2)) / frequency)
        noise = 128 + 40 * (noise - noise.mean()) / noise.std()
        window = np.repeat(np.clip(noise, 0, 255).astype(np.uint8)[..., None], 3, 2)
        shown = zoomed(window, 2**zoom, view, rng.uniform(1.1, 2.2), (view, view))[..., 0]
        profile = np.abs(np.diff(shown.astype(float), 2, axis=1)).mean(0)
        spectra.append(np.log(np.abs(np.fft.rfft(profile / profile.mean() - 1)) + 1e-3))
    x = np.array(spectra)
    x = (x - x.mean(0)) / x.std(0)
    apart = ((x[:, None] - x[None]) ** 2).sum(-1)
    kernel = np.exp(-apart / np.median(apart))
    half = count // 2
    weights = np.linalg.solve(kernel[:half, :half] + 0.1 * np.eye(half), zooms[:half])
    wrong = kernel[half:, :half] @ weights - zooms[half:]
    return 1 - (wrong**2).sum() / (zooms[half:] ** 2).sum()


def test_resampling_leaves_no_trace_of_the_zoom(monkeypatch):
    """Bilinear interpolation does: the test can see it."""
    lanczos, bilinear = cv2.INTER_LANCZOS4, cv2.INTER_LINEAR
    assert _traces(bilinear, monkeypatch) > 0.1
    assert _traces(lanczos, monkeypatch) < 0.02


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0])
def test_a_view_is_zoomed_by_what_it_says(zoom):
    window = np.full((128, 128, 3), 255, np.uint8)
    cv2.circle(window, (64, 64), 10, (0, 0, 0), -1)
    view = zoomed(window, zoom, 64, 1.1, (64.0, 64.0))
    radius = np.sqrt((view[..., 0] < 128).sum() / np.pi)
    assert radius == pytest.approx(10.3 / zoom, rel=0.05)
    rows, columns = np.nonzero(view[..., 0] < 128)
    assert rows.mean() == pytest.approx(32, abs=0.6 / zoom)
    assert columns.mean() == pytest.approx(32, abs=0.6 / zoom)


def test_zooms_are_even_and_their_classes_too():
    task = _task("multiscale")
    zooms = _batch(task, 400)["zoom"].numpy().reshape(-1)
    assert zooms.min() >= np.log2(CLASSES[0])
    assert zooms.max() <= np.log2(CLASSES[-1])
    assert abs(zooms.mean()) < 0.1
    assert zooms.std() == pytest.approx(2 / 12**0.5, abs=0.05)


@pytest.mark.parametrize(("ordinal", "pairwise"), [(False, False), (True, False), (False, True)])
def test_multiscale_asks_what_the_recipe_states(ordinal, pairwise):
    task = _task("multiscale", ordinal=ordinal, pairwise=pairwise)
    losses, scores = task(_batch(task))
    assert ("accuracy" in scores, "pair_accuracy" in scores) == (ordinal, pairwise)
    assert scores.keys() == task.chance.keys()
    assert len(losses) == 1 + ordinal + 2 * pairwise


def test_an_auto_encoder_explains_what_it_has_learned_by_heart():
    task = _task("autoencoder", noise=0)
    batch = _batch(task, 2)
    optimiser = torch.optim.Adam(task.parameters(), 5e-3)
    shares = []
    for _ in range(100):
        losses, scores = task(batch)
        optimiser.zero_grad()
        losses["drawn"].backward()
        optimiser.step()
        part, whole = scores["explained"]
        shares.append(float(part.detach() / whole))
    assert shares[0] < 0.2 < 0.5 < shares[-1]


@pytest.mark.parametrize(
    ("make", "arguments", "said"),
    [
        (RelativePosition, {"patch_px": 8}, "at least 16"),
        (RelativePosition, {"gap_px": 8, "jitter_px": 7}, "overlap"),
        (RelativePosition, {"drop": 1.5}, "between 0 and 1"),
        (RelativePosition, {"fewest_px": 0}, "fewest_px"),
        (MultiScale, {"view_px": 4}, "at least 16"),
        (MultiScale, {"blur_px": (0.5, 2.0)}, "sharpness"),
        (MultiScale, {"blur_px": (2.0, 1.5)}, "blur_px"),
        (MultiScale, {"blur_px": (2.0,)}, "blur_px"),
        (AutoEncoder, {"window_px": 8}, "at least 16"),
    ],
)
def test_impossible_tasks_are_refused(make, arguments, said):
    network = build("mtl", ["foreground"], FAMILIES["mtl"])
    with pytest.raises(ConfigError, match=said):
        make(network, **arguments)


def test_neighbours_are_never_of_the_same_image():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5)).astype(np.float32)
    owners = np.repeat(np.array(list("abcd")), 10)
    found = nearest_patches(vectors, owners, 8, 5)
    assert found.shape == (8, 5)
    for query, near in enumerate(found):
        assert owners[query] not in owners[near]
    assert nearest_patches(vectors, np.array(["a"] * 40), 8, 5).shape == (8, 0)


def test_attention_is_a_map_of_the_image():
    network = build("mtl", ["foreground"], FAMILIES["mtl"])
    found = attention(network, tissue(100, 90, 10, seed=2)[0])
    assert found.shape == (100, 90)
    assert found.min() == 0
    assert found.max() == 1


def test_scores_do_not_depend_on_how_examples_are_batched():
    for name in PRETEXTS:
        task = _task(name).eval()
        batch = _batch(task, 4)
        halves = [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]
        with torch.no_grad():
            whole = task(batch)[1]
            parts = [task(half)[1] for half in halves]
        for key, (part, total) in whole.items():
            assert float(sum(p[key][1] for p in parts)) == pytest.approx(float(total), rel=1e-5)
            found = float(sum(p[key][0] for p in parts))
            assert found == pytest.approx(float(part), rel=1e-3, abs=1e-2), (name, key)


def test_chance_of_the_classes_is_that_of_the_most_frequent():
    task = _task("multiscale")
    zooms = _batch(task, 2000)["zoom"].numpy().reshape(-1)
    borders = np.log2(CLASSES)[:-1] + np.diff(np.log2(CLASSES)) / 2
    counts = np.bincount((zooms[:, None] > borders).sum(1), minlength=5)
    assert task.chance["accuracy"] == pytest.approx(counts.max() / counts.sum(), abs=0.02)
