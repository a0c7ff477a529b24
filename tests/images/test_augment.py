"""Test augmentation: a seed determines the pixels, and mixed images have mixed targets."""

import cv2
import numpy as np
import pytest
from conftest import photo

from imgclf.images import augment


@pytest.mark.parametrize("number", range(len(augment._STRONG_CHANGES)))
def test_each_strong_change_keeps_the_shape_and_changes_pixels(number: int) -> None:
    image = np.asarray(photo(1, 48, 40))
    first, second = (augment._STRONG_CHANGES[number](image, np.random.default_rng(3)) for _time in range(2))
    assert (first.shape, first.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(first, second)
    assert (first != image).any()
    assert abs(first.astype(int).mean() - image.mean()) < 40


def test_strong_changes_more_than_light() -> None:
    image = np.asarray(photo(2, 64, 64))

    def change(one: object) -> float:
        return float(np.mean([np.abs(one(image, seed).astype(int) - image).mean() for seed in range(40)]))  # type: ignore[operator]

    assert change(augment.strong) > 1.1 * change(augment.light)


def test_light_changes_less_if_there_are_many_images() -> None:
    """With 10,000 images or more, brightness and contrast change by half as much."""
    grey = np.full((16, 16, 3), 128, np.uint8)
    for seed in range(20):
        few, many = (augment.image_augmentation("light", True, count)(grey, seed).astype(int) for count in (9_999, 10_000))
        np.testing.assert_allclose(few - 128, 2 * (many - 128), atol=2)
    assert (augment.image_augmentation("strong", True, 10_000)(grey, 3) == augment.strong(grey, 3)).all()


def test_targets_are_mixed_like_pixels() -> None:
    """One class is black and the other white, so the mean brightness is the target of the second class."""
    pixels = np.zeros((8, 40, 40, 3), np.uint8)
    pixels[4:] = 255
    targets = np.repeat(np.eye(2, dtype=np.float32), 4, axis=0)
    kinds = set()
    for seed in range(60):
        mixed, mixed_targets = augment.mix(pixels, targets, seed)
        np.testing.assert_allclose(mixed_targets.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)) / 255, mixed_targets[:, 1], atol=0.003)
        unchanged = np.array_equal(mixed, pixels)
        kinds.add("none" if unchanged else "cutmix" if set(np.unique(mixed)) == {0, 255} else "mixup")
    assert kinds == {"none", "cutmix", "mixup"}


def test_no_augmentation_changes_nothing() -> None:
    assert augment.batch_augmentation("none", True, 1) is None
    image = np.asarray(photo(1, 16, 16))
    np.testing.assert_array_equal(augment.image_augmentation("none", True, 1)(image, 5), image)


# -- how far images change ----------------------------------------------------------------------------------------------------


def levels(value: int, draws: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Red, green and blue of a grey level: contrast by a fifth, brightness by 25 levels, each channel by 8%."""
    contrast = 1 + strength * 0.2 * draws[4]
    tinted = value * contrast * (1 + strength * 0.08 * draws[6:9])
    return np.clip(np.rint(tinted + strength * 25 * draws[5] + 128 * (1 - contrast)), 0, 255)


@pytest.mark.parametrize("value", [0, 60, 128, 200, 255])
def test_light_changes_levels_as_far_as_it_says(value: int) -> None:
    """An image of one colour stays one: no border of another colour comes in when it is turned and moved."""
    image = np.full((24, 40, 3), value, np.uint8)
    for seed in range(30):
        changed = augment.light(image, seed)
        assert (changed == changed[0, 0]).all()
        expected = levels(value, np.random.default_rng(seed).uniform(-1, 1, 9))
        np.testing.assert_allclose(changed[0, 0], expected, atol=1)


def test_light_turns_zooms_and_shifts_as_far_as_it_says() -> None:
    """By 15 degrees, 15% and a tenth of each side about the centre: red grows to the right, green to the bottom."""
    width, height = 64, 48
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 40 + 2 * np.arange(width), 40 + 3 * np.arange(height)[:, None], 128
    for seed in range(40):
        changed = augment.light(image, seed, flip=False)
        draws = np.random.default_rng(seed).uniform(-1, 1, 9)
        angle, zoom = np.radians(15 * draws[0]), 1 + 0.15 * draws[1]
        turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = 0.1 * draws[2:4] * (width, height)
        tables = np.array([levels(level, draws) for level in range(256)])
        for x, y in ((32, 24), (26, 20), (38, 28), (27, 27), (37, 21)):
            source = np.linalg.solve(turn, np.array([x, y]) - middle - shift) + middle
            red, green = 40 + 2 * source[0], 40 + 3 * source[1]
            expected = np.interp(red, np.arange(256), tables[:, 0]), np.interp(green, np.arange(256), tables[:, 1])
            np.testing.assert_allclose(changed[y, x, :2], expected, atol=2.5)


def test_strong_is_light_at_one_and_six_tenths_with_two_more_changes() -> None:
    """Where these two are blurring and sharpening, an image of one colour shows only the first."""
    image = np.full((24, 24, 3), 100, np.uint8)
    found = 0
    for seed in range(400):
        if set(np.random.default_rng((seed, 1)).choice(7, 2, replace=False)) == {3, 4}:
            found += 1
            changed = augment.strong(image, seed)
            expected = levels(100, np.random.default_rng(seed).uniform(-1, 1, 9), 1.6)
            np.testing.assert_allclose(changed, np.broadcast_to(expected, (24, 24, 3)), atol=1)
    assert found > 5


@pytest.mark.parametrize("kind", ["light", "strong"])
def test_without_flips_the_left_side_stays_the_left_side(kind: augment.Augment) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:] = np.linspace(20, 230, 40, dtype=np.uint8)[:, None]

    def flips(flip: bool) -> int:
        change = augment.image_augmentation(kind, flip, 100)
        changed = [change(image, seed).astype(float) for seed in range(60)]
        return sum(one[:, :20].mean() > one[:, 20:].mean() for one in changed)

    assert flips(False) == 0
    assert 18 <= flips(True) <= 42
    assert all((augment.strong(image, seed) == augment.strong(image, seed, True)).all() for seed in range(10))


def test_only_strong_mixes_images_and_each_has_its_own_seed() -> None:
    pixels = np.stack([np.asarray(photo(number, 24, 24)) for number in range(4)])
    targets, mixed = np.eye(4, dtype=np.float32), 0
    for start in range(20):
        seeds = np.arange(start, start + 4)
        light, strong = augment.batch_augmentation("light", True, 100), augment.batch_augmentation("strong", True, 100)
        assert light is not None
        assert strong is not None
        changed, own = light(pixels, targets, seeds)
        np.testing.assert_array_equal(own, targets)
        expected = [augment.light(image, seed) for image, seed in zip(pixels, seeds.tolist(), strict=True)]
        np.testing.assert_array_equal(changed, expected)
        changed, shares = strong(pixels, targets, seeds)
        each = np.stack([augment.strong(image, seed) for image, seed in zip(pixels, seeds.tolist(), strict=True)])
        wanted, fractions = augment.mix(each, targets, start)
        np.testing.assert_array_equal(changed, wanted)
        np.testing.assert_array_equal(shares, fractions)
        mixed += bool((shares != targets).any())
    assert 4 <= mixed <= 16


def test_half_of_the_batches_are_mixed_and_half_of_these_cut() -> None:
    """Mixup mostly leaves an image nearly as it is (Beta of 0.2); the area of a cut is uniform."""
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    pixels[1] = 255
    targets = np.eye(2, dtype=np.float32)
    plain, kept, areas = 0, [], []
    for seed in range(600):
        mixed, shares = augment.mix(pixels, targets, seed)
        found = set(np.unique(mixed).tolist())
        if mixed is pixels:
            plain += 1
        elif not found <= {0, 255}:
            kept.append(float(shares[0, 0]))
        elif 0.01 < shares[0, 1] < 0.99:
            areas.append(float(shares[0, 1]))
    assert 250 < plain < 350
    assert 0.4 < np.mean(areas) < 0.6
    assert 0.5 < len(areas) / (len(areas) + len(kept)) < 0.75, (
        "mixup that changes no level is left out, and the batch unshuffled"
    )
    assert np.mean([share < 0.1 or share > 0.9 for share in kept]) > 0.4


def test_a_hole_is_a_grey_square_of_up_to_two_fifths_of_the_shorter_side() -> None:
    image = np.full((60, 100, 3), 255, np.uint8)
    sides = []
    for seed in range(100):
        changed = augment._cutout(image, np.random.default_rng(seed))
        rows, columns = np.nonzero((changed == 128).all(axis=-1))
        side = rows.max() - rows.min() + 1
        assert columns.max() - columns.min() + 1 == side
        assert len(rows) == side**2 == np.count_nonzero((changed != 255).any(axis=-1))
        sides.append(side)
    assert (min(sides) in range(9, 12), max(sides) in range(21, 25)) == (True, True)
    assert (image == 255).all()


def test_hues_turn_by_twelve_of_180_and_colours_keep_their_brightness() -> None:
    image = cv2.cvtColor(np.full((8, 8, 3), (4, 120, 200), np.uint8), cv2.COLOR_HSV2RGB)
    turns = []
    for seed in range(100):
        hue, more, value = cv2.cvtColor(augment._hue(image, np.random.default_rng(seed)), cv2.COLOR_RGB2HSV)[0, 0].astype(int)
        turns.append((hue - 4 + 90) % 180 - 90)
        assert abs(value - 200) <= 1
        assert 120 * 0.6 - 3 <= more <= 120 * 1.5 + 3
    assert min(turns) in (-13, -12, -11)
    assert max(turns) in (11, 12, 13)


def test_posterizing_keeps_four_to_six_bits() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(8, 32).repeat(3).reshape(8, 32, 3)
    kept = set()
    for seed in range(40):
        changed = augment._posterize(image, np.random.default_rng(seed))
        kept.add(len(np.unique(changed)))
        assert (changed <= image).all()
    assert kept == {16, 32, 64}


def test_noise_has_four_to_fourteen_levels() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    spreads = [augment._noise(image, np.random.default_rng(seed)).std() for seed in range(40)]
    assert 3.8 < min(spreads) < 6
    assert 12 < max(spreads) < 14.3


def test_grey_keeps_brightness_and_at_most_seven_tenths_of_the_colour() -> None:
    image = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    left = []
    for seed in range(60):
        changed = augment._grey(image, np.random.default_rng(seed))[0, 0].astype(int)
        left.append((changed[0] - changed[2]) / 150)
        assert abs(changed @ (0.299, 0.587, 0.114) - 124.2) < 1.5
    assert 0.6 < max(left) <= 0.71
    assert -0.01 <= min(left) < 0.1
