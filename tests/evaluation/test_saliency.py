"""Test saliency maps with classifiers that depend on known pixels."""

import cv2
import numpy as np
import pytest
from conftest import photo

from imgclf.core.config import Preprocessing
from imgclf.evaluation import saliency
from imgclf.images import decode, preprocess
from imgclf.models import backbones
from imgclf.models.grad_cam import grad_cam

SIDE = 64


def image(top: int = 8, left: int = 40) -> decode.Image:
    """Return grey noise with a bright red square, 16 pixels wide."""
    canvas = np.random.default_rng(0).integers(90, 140, (SIDE, SIDE, 3)).astype(np.uint8)
    canvas[top : top + 16, left : left + 16] = (250, 20, 20)
    return canvas


def redness(image: decode.Image) -> np.ndarray:
    """Return (2,) probabilities; that of the second class grows with the redness of the reddest pixels."""
    excess = image[..., 0].astype(float) - image[..., 1:].mean(axis=-1)
    fraction = 1 / (1 + np.exp(-(np.sort(excess, axis=None)[-100:].mean() - 100) / 20))
    return np.array([1 - fraction, fraction])


def centre(heat: np.ndarray) -> tuple[float, float]:
    """Return the centre of mass (row, column) of a map."""
    rows, columns = np.indices(heat.shape)
    return float((heat * rows).sum() / heat.sum()), float((heat * columns).sum() / heat.sum())


@pytest.mark.parametrize(("top", "left"), [(8, 40), (40, 4), (0, 0), (48, 48), (24, 24)])
def test_occlusion_finds_the_square(top: int, left: int) -> None:
    """The centre of mass is near the square, and the maximum is in it."""
    heat = saliency.occlusion(redness, image(top, left), 1)
    assert heat.shape == (SIDE, SIDE)
    assert (heat.min(), heat.max()) == (pytest.approx(0, abs=0.05), 1)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert top - 2 <= row < top + 18
    assert left - 2 <= column < left + 18
    assert centre(heat) == pytest.approx((top + 7.5, left + 7.5), abs=7)


def test_the_map_is_zero_if_no_patch_has_influence() -> None:
    """This is the case for constant probabilities, and for the class whose probability the square decreases."""
    assert not saliency.occlusion(lambda _image: np.array([0.3, 0.7]), image(), 1).any()
    assert not saliency.occlusion(redness, image(), 0).any()


def test_fidelity_is_higher_for_a_correct_map_than_for_its_inverse() -> None:
    heat = saliency.occlusion(redness, image(), 1)
    good = saliency.fidelity(redness, image(), 1, heat)
    bad = saliency.fidelity(redness, image(), 1, 1 - heat)
    assert good.before == redness(image())[1] > 0.9
    assert good.marked[-1] < 0.1 < good.random[-1]
    assert bad.marked[-1] == pytest.approx(good.before, abs=0.01)
    assert good.random == bad.random  # the same seed gives the same patches


def test_the_logit_is_precise_near_one() -> None:
    assert saliency.logit(np.array([1.0, 1e-15]), 0) == pytest.approx(15 * np.log(10))
    assert saliency.logit(np.array([0.25, 0.5, 0.25]), 1) == 0
    assert np.isfinite(saliency.logit(np.array([0.0, 1.0]), 0))


@pytest.mark.parametrize(
    "name",
    [
        "cnn",
        "efficientnet-lite0",
        "mobilenetv2",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in backbones.BACKBONES
            if name not in ("efficientnet-lite0", "mobilenetv2")
        ),
    ],
)
def test_grad_cam_equals_class_activation_maps_for_every_network(name: str) -> None:
    """For networks with global average pooling, Grad-CAM has the closed form of Zhou et al. (2016). Weights are random."""
    import keras

    from imgclf.models import cnn

    if name == "cnn":
        network = cnn.build(name, 3, (64, 64), seed=1)
    else:
        network = cnn.transferred(cnn.Pretrained(name, 64, "none"), 3, seed=1)
    image = np.asarray(photo(3, 64, 64))
    below = network.layers[: next(n for n, one in enumerate(network.layers) if "GlobalAverage" in type(one).__name__)]
    maps = keras.Sequential([keras.Input((64, 64, 3)), *below]).predict_on_batch(image[None].astype(np.float32))[0]
    by_class = np.maximum(
        maps @ network.layers[-1].get_weights()[0], 0
    )  # the gradient of a mean is the weight of the dense layer
    target = int(by_class.max(axis=(0, 1)).argmax())
    found = grad_cam(network, image, target)
    expected = cv2.resize(by_class[..., target] / by_class[..., target].max(), (64, 64), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-3)


def test_patches_cover_every_pixel() -> None:
    for height, width in ((64, 64), (224, 160), (17, 50), (32, 200), (3, 3)):
        counts = np.zeros((height, width), int)
        for rows, columns in saliency._patches(height, width):
            assert 0 <= rows.start < rows.stop <= height
            assert 0 <= columns.start < columns.stop <= width
            counts[rows, columns] += 1
        assert counts.min() >= 1


def test_the_number_of_highest_pixels_is_exact() -> None:
    for values in (np.zeros((20, 30)), np.random.default_rng(0).random((20, 30))):
        for fraction in (0.05, 0.1, 0.5):
            assert saliency._highest(values, fraction).sum() == round(600 * fraction)


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), [(120, 240), (240, 120), (100, 100), (30, 200)])
def test_maps_are_transformed_to_the_original_image(aspect: str, height: int, width: int) -> None:
    """A mark in the image has the same position after preprocessing and the transformation back."""
    preprocessing = Preprocessing(96, 96, aspect)  # type: ignore[arg-type]
    original = np.zeros((height, width, 3), np.uint8)
    row, column = height // 2 + 5, width // 2 - 5
    original[row - 4 : row + 4, column - 4 : column + 4] = 255
    heat = preprocess.apply(preprocessing, original)[..., 0] / 255.0
    if aspect == "pad":
        heat[preprocess.apply(preprocessing, original + 1)[..., 0] == 128] = 0  # the padding
    whole = saliency.to_original(preprocessing, heat, height, width)
    assert whole.shape == (height, width)
    visible = ~np.isnan(whole)
    assert centre(np.nan_to_num(whole)) == pytest.approx((row - 0.5, column - 0.5), abs=2.5)
    if aspect == "crop":
        assert visible.sum() == pytest.approx(min(height, width) ** 2, rel=0.05)
    else:
        assert visible.all()


def test_overlay_keeps_the_size_and_marks_salient_and_invisible_pixels() -> None:
    original = np.full((50, 80, 3), 120, np.uint8)
    heat = np.zeros((50, 80))
    heat[:, :20] = np.nan
    heat[10:30, 50:70] = 1
    drawn = saliency.overlay(original, heat)
    assert drawn.shape == original.shape
    assert drawn[:, :20].max() < 60
    assert drawn[40, 40].tolist() == [120, 120, 120]
    assert drawn[20, 60].astype(int).sum() > 500
    assert np.array_equal(saliency.overlay(original, np.zeros((50, 80))), original)


def test_overlay_equals_its_formula() -> None:
    """It mixes the image with matplotlib's inferno colours. A white line surrounds saliency of 0.5 or more."""
    from matplotlib import colormaps

    original = np.full((60, 90, 3), (200, 100, 50), np.uint8)
    grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    pale = 0.55 * np.array([200, 100, 50]) + 0.45 * grey
    for level in (0.1, 0.3, 0.49):
        heat = np.full((60, 90), level)
        heat[:10] = np.nan
        drawn = saliency.overlay(original, heat)
        glow, opacity = 255 * np.array(colormaps["inferno"](level)[:3]), 0.65 * level**0.8
        np.testing.assert_allclose(drawn[40, 40], pale * (1 - opacity) + glow * opacity, atol=3)
        np.testing.assert_allclose(drawn[5, 40], 0.3 * pale, atol=1)
        assert len(np.unique(drawn[10:].reshape(-1, 3), axis=0)) == 1
    heat = np.full((60, 90), 0.2)
    heat[20:40, 30:60] = 0.5
    drawn = saliency.overlay(original, heat)
    edge = np.zeros((60, 90), bool)
    edge[20:40, 30:60] = True
    edge[21:39, 31:59] = False
    np.testing.assert_array_equal(drawn[..., 1] > 200, edge)


def test_occlusion_is_the_weighted_mean_of_the_decreases() -> None:
    """The logit of this classifier is proportional to the number of bright pixels."""
    canvas = np.zeros((32, 48, 3), np.uint8)
    canvas[12:16, 20:28] = 255

    def bright(image: decode.Image) -> np.ndarray:
        logit = (image[..., 0] > 128).sum() / 8
        return np.array([1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))])

    total, weight = np.zeros((32, 48)), np.zeros((32, 48))
    for top in range(0, 25, 4):
        for left in range(0, 41, 4):
            covered = (canvas[top : top + 8, left : left + 8, 0] > 128).sum() / 8
            window = np.outer(np.hanning(10)[1:-1], np.hanning(10)[1:-1])
            total[top : top + 8, left : left + 8] += covered * window
            weight[top : top + 8, left : left + 8] += window
    found = saliency.occlusion(bright, canvas, 1)
    np.testing.assert_allclose(found, (total / weight) / (total / weight).max(), atol=1e-6)


def test_patches_are_a_quarter_of_the_shorter_side_and_overlap_by_half() -> None:
    found = saliency._patches(32, 64)
    assert found[0] == (slice(0, 8), slice(0, 8))
    assert sorted({rows.start for rows, _columns in found}) == [0, 4, 8, 12, 16, 20, 24]
    assert sorted({columns.start for _rows, columns in found}) == list(range(0, 57, 4))
    assert saliency._patches(3, 3)[0] == (slice(0, 2), slice(0, 2))


def test_negligible_maps_are_zero_and_others_reach_one() -> None:
    assert saliency._scaled(np.array([[0.05, 0.01]])).tolist() == [[0.0, 0.0]]
    assert saliency._scaled(np.array([[0.06, 0.03]])).tolist() == [[1.0, 0.5]]


def test_random_patches_are_a_tenth_of_each_side() -> None:
    found = saliency._random_patches((20, 40), np.random.default_rng(0))
    assert found.shape == (20, 40)
    expected = np.random.default_rng(0).random((10, 10))
    np.testing.assert_array_equal(found, expected.repeat(2, axis=0).repeat(4, axis=1))


def test_fidelity_covers_the_fractions_with_the_blurred_image() -> None:
    """The probability is the fraction of pixels that are not covered."""
    canvas = np.random.default_rng(0).integers(0, 256, (20, 40, 3)).astype(np.uint8)
    cover = saliency.blurred(canvas)

    def uncovered(image: decode.Image) -> np.ndarray:
        assert ((image == canvas) | (image == cover)).all()
        fraction = (image == canvas).all(axis=2).mean()
        return np.array([1 - fraction, fraction])

    heat = np.linspace(1, 0, 800).reshape(20, 40)
    found = saliency.fidelity(uncovered, canvas, 1, heat, rounds=2)
    assert found.before == 1
    assert found.marked == pytest.approx((0.95, 0.9, 0.8, 0.7))
    assert found.random == pytest.approx((0.95, 0.9, 0.8, 0.7))

    def uncovered_rows(image: decode.Image) -> np.ndarray:
        fraction = (image[:2] == canvas[:2]).all(axis=2).mean()
        return np.array([1 - fraction, fraction])

    results = [saliency.fidelity(uncovered_rows, canvas, 1, heat, seed=seed, rounds=1) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    assert results[0].marked == pytest.approx((0.5, 0, 0, 0))
    masks = [
        saliency._highest(saliency._random_patches((20, 40), np.random.default_rng(0)), fraction)
        for fraction in saliency.FRACTIONS
    ]
    assert results[0].random == pytest.approx([1 - mask[:2].mean() for mask in masks])


def test_blurring_uses_a_window_of_half_the_shorter_side_twice() -> None:
    """A step becomes the convolution of two box windows. A constant image does not change, not even at its edges."""
    spread = saliency.blurred(np.full((33, 60, 3), 7, np.uint8))
    assert (spread == 7).all()
    step = np.zeros((33, 60, 3), np.uint8)
    step[:, 30:] = 255
    line = saliency.blurred(step)[16, :, 0].astype(int)
    window = 17  # 33 // 2, made odd
    once = np.clip((np.arange(60) - 30 + window // 2 + 1) / window, 0, 1) * 255
    padded = np.pad(once, window // 2, mode="edge")
    expected = np.convolve(padded, np.ones(window) / window, mode="valid")
    np.testing.assert_allclose(line, expected, atol=1.5)
    assert (saliency.blurred(np.zeros((2, 2, 3), np.uint8)) == 0).all()
