"""Test augmentation: a seed determines the pixels, and mixed images have mixed targets."""

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
