"""The decoder and the preprocessing as TensorFlow operations, for a SavedModel that accepts image files.

Everywhere else, OpenCV decodes. For JPEG files both give identical pixels if TensorFlow uses its accurate transform. The resize
below differs only by rounding. `tests/export/test_graphs.py` measures both.
"""

from collections.abc import Callable
from typing import Any

from imgclf.core.config import Preprocessing

_HEAD = 1 << 17  # bytes at the start of a file that are searched for an EXIF block


def pixels(preprocessing: Preprocessing, data: Any) -> Any:
    """Decode and preprocess an image file.

    Args:
        data: Scalar string tensor with the bytes of a JPEG or PNG file.

    Returns:
        (height, width, 3) float32 RGB of whole numbers from 0 to 255.
    """
    import tensorflow as tf

    image = tf.cond(
        tf.io.is_jpeg(data),
        lambda: _upright(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"), _orientation(data)),
        lambda: _on_white(_png(data)),
    )
    image = tf.ensure_shape(image, (None, None, 3))
    return tf.ensure_shape(_applied(preprocessing, tf.cast(image, tf.float32)), (preprocessing.height, preprocessing.width, 3))


def _png(data: Any) -> Any:
    """Decode a PNG to (h, w, 1 to 4) uint16 grey or RGB, with or without alpha. 8-bit values are multiplied by 257.

    TensorFlow applies a transparent colour only with channels=4. For files with fewer than 8 bits and no transparent colour,
    channels=4 would give a wrong alpha.
    """
    import tensorflow as tf

    head = _head(data)
    is_opaque = (head[24] < 8) & (tf.size(_positions(head, b"tRNS")) == 0)
    return tf.cond(
        is_opaque,
        lambda: tf.io.decode_png(data, channels=0, dtype=tf.uint16),
        lambda: tf.io.decode_png(data, channels=4, dtype=tf.uint16),
    )


def _head(data: Any) -> Any:
    """Return the first bytes as (n,) int32, followed by 32 zeros."""
    import tensorflow as tf

    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, _HEAD), tf.uint8), tf.int32)
    return tf.pad(head, [[0, 32]])


def _positions(head: Any, name: bytes) -> Any:
    """Return the positions of these bytes in the result of `_head`."""
    import tensorflow as tf

    size = tf.size(head) - 32
    matches = [head[number : size + number] == value for number, value in enumerate(name)]
    return tf.where(tf.reduce_all(tf.stack(matches), axis=0))[:, 0]


def _on_white(image: Any) -> Any:
    """Convert 16-bit grey or RGB to 8-bit RGB, with transparency blended over white, as in `images.decode`."""
    import tensorflow as tf

    wide = (tf.cast(image, tf.int32) + 128) // 257
    shape = tf.shape(wide)
    has_alpha = shape[2] % 2 == 0
    alpha = tf.cond(has_alpha, lambda: wide[..., -1:], lambda: tf.fill((shape[0], shape[1], 1), 255))
    colours = tf.cond(has_alpha, lambda: wide[..., :-1], lambda: wide) + tf.zeros((1, 1, 3), tf.int32)
    return tf.cast((colours * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _orientation(data: Any) -> Any:
    """Return the EXIF orientation of a JPEG, 1 to 8; 1 if there is none. See the EXIF and TIFF specifications."""
    import tensorflow as tf

    head = _head(data)
    size = tf.size(head) - 32
    found = _positions(head, b"Exif\0\0")

    def tag() -> Any:
        start = tf.cast(found[0], tf.int32) + 6
        is_little = head[tf.minimum(start, size)] == ord("I")

        def number(at: Any, length: int) -> Any:
            values = [tf.gather(head, tf.clip_by_value(at + offset, 0, size + 15)) for offset in range(length)]
            little_endian = sum(value * 256**power for power, value in enumerate(values))
            big_endian = sum(value * 256**power for power, value in enumerate(reversed(values)))
            return tf.where(is_little, little_endian, big_endian)

        directory = start + tf.clip_by_value(number(start + 4, 4), 0, size)
        entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), size // 12))
        values = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == 0x0112)
        value = tf.concat([values, [1]], axis=0)[0]
        return tf.where((value >= 1) & (value <= 8), value, 1)

    return tf.cond(tf.size(found) > 0, tag, lambda: tf.constant(1))


def _upright(image: Any, orientation: Any) -> Any:
    """Flip, rotate or transpose an image as its EXIF orientation requires."""
    import tensorflow as tf

    def transposed(image: Any) -> Any:
        return tf.transpose(image, (1, 0, 2))

    branches: list[Callable[[], Any]] = [
        lambda: image,
        lambda: image[:, ::-1],
        lambda: image[::-1, ::-1],
        lambda: image[::-1],
        lambda: transposed(image),
        lambda: transposed(image)[:, ::-1],
        lambda: transposed(image)[::-1, ::-1],
        lambda: transposed(image)[::-1],
    ]
    return tf.switch_case(orientation - 1, branches)


def _applied(preprocessing: Preprocessing, image: Any) -> Any:
    """Apply the preprocessing, as `images.preprocess.apply` does, to (h, w, 3) float32."""
    import tensorflow as tf

    if preprocessing.aspect == "squash":
        return _resized(image, preprocessing.height, preprocessing.width)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    scale_x = preprocessing.width / tf.cast(width, tf.float64)
    scale_y = preprocessing.height / tf.cast(height, tf.float64)

    def rounded(length: Any, most: Any) -> Any:
        return tf.minimum(most, tf.maximum(1, tf.cast(tf.round(length), tf.int32)))

    if preprocessing.aspect == "crop":
        scale = tf.maximum(scale_x, scale_y)
        cut_height, cut_width = rounded(preprocessing.height / scale, height), rounded(preprocessing.width / scale, width)
        top, left = (height - cut_height) // 2, (width - cut_width) // 2
        return _resized(image[top : top + cut_height, left : left + cut_width], preprocessing.height, preprocessing.width)
    scale = tf.minimum(scale_x, scale_y)
    inner_height = rounded(tf.cast(height, tf.float64) * scale, preprocessing.height)
    inner_width = rounded(tf.cast(width, tf.float64) * scale, preprocessing.width)
    top, left = (preprocessing.height - inner_height) // 2, (preprocessing.width - inner_width) // 2
    below, right = preprocessing.height - inner_height - top, preprocessing.width - inner_width - left
    inner = _resized(image, inner_height, inner_width)
    return tf.pad(inner, [[top, below], [left, right], [0, 0]], constant_values=128.0)


def _resized(image: Any, height: Any, width: Any) -> Any:
    """Resize each axis with one matrix: area averages to shrink, linear interpolation to enlarge, as OpenCV does."""
    import tensorflow as tf

    shape = tf.shape(image)
    tall = tf.einsum("aH,HWc->aWc", _weights(shape[0], height), image)
    return tf.round(tf.einsum("bW,aWc->abc", _weights(shape[1], width), tall))


def _weights(before: Any, after: Any) -> Any:
    """Return the matrix (after, before) that resizes an axis from `before` to `after` pixels. Each row sums to 1."""
    import tensorflow as tf

    old, new = tf.cast(before, tf.float32), tf.cast(after, tf.float32)
    step = old / new
    row, column = tf.range(new)[:, None], tf.range(old)[None, :]
    overlap = tf.minimum((row + 1) * step, column + 1) - tf.maximum(row * step, column)
    centre = tf.clip_by_value((row + 0.5) * step - 0.5, 0.0, old - 1)
    return tf.where(step > 1, tf.maximum(overlap, 0.0) / step, tf.maximum(1 - tf.abs(centre - column), 0.0))
