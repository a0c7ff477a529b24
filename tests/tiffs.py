"""Write TIFFs of every layout, and compute from the written values the pixels that each must decode to."""

import dataclasses
import itertools
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np

WHITE_0, BLACK_0, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE_0: 1, BLACK_0: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}  # samples per pixel
EXTRAS = ((), (0,), (1,), (2,), (0, 0))  # unspecified, associated and unassociated alpha, two bands
DEPTHS = ("u1", "u4", "u8", "u12", "u16", "u32", "f16", "f32", "f64")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout of a TIFF. tile: (height, width), or None for strips of `rows`."""

    depth: str = "u8"
    photometric: int = RGB
    extra: tuple[int, ...] = ()
    planar: bool = False
    tile: tuple[int, int] | None = None
    rows: int = 7
    compression: int = 1
    predictor: int = 1
    orientation: int = 1
    order: str = "<"
    big: bool = False
    fill_order: int = 1

    @property
    def samples(self) -> int:
        return COLOURS[self.photometric] + len(self.extra)

    @property
    def bits(self) -> int:
        return int(self.depth[1:])


def layouts(seed: int = 0) -> Iterator[Layout]:
    """Yield every combination of depth, colours, extra samples, planes, tiles and compression; draw the other fields."""
    chance = random.Random(seed)
    for depth, photometric, extra, planar, tiled, compression in itertools.product(
        DEPTHS, COLOURS, EXTRAS, (False, True), (False, True), (1, 5, 8, 32773)
    ):
        if planar and COLOURS[photometric] + len(extra) == 1:
            continue
        if photometric == PALETTE and (depth[0] == "f" or depth == "u32"):
            continue  # palettes of such depths do not exist
        predictors = [1, 1]
        if compression in (5, 8) and depth not in ("u1", "u4", "u12"):
            predictors += [2, 3] if depth[0] == "f" else [2, 2]
        yield Layout(
            depth, photometric, extra, planar,
            tile=chance.choice(((16, 16), (16, 32), (48, 64))) if tiled else None,
            rows=chance.choice((1, 7, 16, 1000)),
            compression=compression,
            predictor=chance.choice(predictors),
            orientation=chance.choice((1, 1, 2, 3, 4, 5, 6, 7, 8)),
            order=chance.choice("<>"),
            big=chance.random() < 0.3,
            fill_order=2 if chance.random() < 0.1 else 1,
        )  # fmt: skip


def is_supported(layout: Layout) -> bool:
    """Whether imgclf reads the layout. It must refuse every other one as unsupported."""
    if layout.photometric == LAB or layout.depth == "u32" or len(layout.extra) > 1 or layout.samples > 4:
        return False
    if layout.photometric == PALETTE:
        return not layout.extra
    if layout.photometric in (CMYK, YCBCR):
        return layout.depth == "u8"
    return (layout.photometric, layout.extra) != (WHITE_0, (1,))


def samples(layout: Layout, seed: int, height: int = 21, width: int = 37) -> np.ndarray:
    """Return (height, width, samples): waves and some noise over the whole range, none of it near a rounding to 8 bits."""
    random_ = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [0.5 + 0.45 * np.sin(x / (3 + n) + n) * np.cos(y / (4 + n)) for n in range(layout.samples)]
    unit = (np.dstack(waves) + random_.normal(0, 0.05, (height, width, layout.samples))).clip(0, 1)
    unit[0, 0], unit[-1, -1] = 0, 1
    for place, kind in enumerate(layout.extra):
        if kind == 1:  # no colour exceeds its alpha
            unit[..., : COLOURS[layout.photometric]] *= unit[..., COLOURS[layout.photometric] + place, None]
    if layout.depth[0] == "f":
        return unit.astype(f"f{layout.bits // 8}")
    return np.rint(unit * ((1 << layout.bits) - 1)).astype("u1" if layout.bits <= 8 else "u2" if layout.bits <= 16 else "u4")


def palette(layout: Layout) -> np.ndarray:
    """Return the palette: (colours, 3) uint16."""
    return np.random.default_rng(layout.bits).integers(0, 65536, (1 << layout.bits, 3)).astype(np.uint16)


def expected(layout: Layout, values: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) uint8 RGB, computed in floating point by the definitions of TIFF 6.0."""
    top = 1.0 if layout.depth[0] == "f" else (1 << layout.bits) - 1
    if layout.photometric == PALETTE:
        shown = palette(layout)[values[..., 0]] // 256
    else:
        unit = np.floor(values.astype(np.float64) / top * 255 + 0.5)
        shown = unit[..., : COLOURS[layout.photometric]]
        if layout.photometric == WHITE_0:
            shown = 255 - shown
        if layout.photometric in (WHITE_0, BLACK_0):
            shown = np.dstack([shown] * 3)
        if layout.photometric == CMYK:
            shown = np.floor((255 - shown[..., :3]) * (255 - shown[..., 3:]) / 255 + 0.5)
        if layout.photometric == YCBCR:
            y, cb, cr = (shown[..., n] - (0, 128, 128)[n] for n in range(3))
            shown = np.floor(np.dstack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]) + 0.5).clip(0, 255)
        if layout.extra and layout.extra[0]:
            alpha = unit[..., -1:]
            kept = shown if layout.extra[0] == 1 else shown * alpha / 255
            shown = np.floor(kept + (255 - alpha) + 0.5 - 1e-9).clip(0, 255)
    return oriented(shown.astype(np.uint8), layout.orientation)


def oriented(shown: np.ndarray, orientation: int) -> np.ndarray:
    """Apply the tag Orientation, which gives the sides of row 0 and column 0."""
    row, column = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    if row in ("left", "right"):
        shown, row, column = shown.swapaxes(0, 1), column, row
    shown = shown[::-1] if row == "bottom" else shown
    return shown[:, ::-1] if column == "right" else shown


# -- writing ----------------------------------------------------------------------------------------------------------------


def written(layout: Layout, values: np.ndarray, changed: dict[int, tuple[int, tuple[int, ...]]] | None = None) -> bytes:
    """Write the TIFF. changed: type and values of tags to replace, by number; without values, the tag is removed."""
    height, width, count = values.shape
    planes = [values[..., n : n + 1] for n in range(count)] if layout.planar else [values]
    tall, wide = layout.tile or (min(layout.rows, height), width)
    pieces = [
        _packed(layout, _piece(layout, plane, top, left, tall, wide))
        for plane in planes
        for top in range(0, height, tall)
        for left in range(0, width, wide)
    ]
    depth = {"u": 1, "f": 3}[layout.depth[0]]
    tags: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (4, (width,)), 257: (4, (height,)), 258: (3, (layout.bits,) * count), 259: (3, (layout.compression,)),
        262: (3, (layout.photometric,)), 277: (3, (count,)), 284: (3, (2 if layout.planar else 1,)), 339: (3, (depth,) * count),
    }  # fmt: skip
    if layout.tile:
        tags |= {322: (4, (wide,)), 323: (4, (tall,))}
    else:
        tags |= {278: (4, (layout.rows,))}
    if layout.extra:
        tags[338] = 3, layout.extra
    if layout.predictor != 1:
        tags[317] = 3, (layout.predictor,)
    if layout.orientation != 1:
        tags[274] = 3, (layout.orientation,)
    if layout.fill_order != 1:
        tags[266] = 3, (layout.fill_order,)
    if layout.photometric == PALETTE:
        tags[320] = 3, tuple(palette(layout).T.ravel().tolist())
    if layout.photometric == YCBCR:
        tags[530] = 3, (1, 1)
    return assembled(tags, pieces, layout.order, layout.big, changed or {}, bool(layout.tile))


def assembled(
    tags: dict[int, tuple[int, tuple[int, ...]]],
    pieces: list[bytes],
    order: str,
    big: bool,
    changed: dict[int, tuple[int, tuple[int, ...]]],
    tiled: bool,
) -> bytes:
    """Write a TIFF of these tags and strips or tiles; the directory is after them."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42))
    out += struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)

    def put(content: bytes) -> int:
        out.extend(bytes(-len(out) % 8))
        place = len(out)
        out.extend(content)
        return place

    places = tuple(put(piece) for piece in pieces)
    tags = tags | {324 if tiled else 273: (16 if big else 4, places), 325 if tiled else 279: (4, tuple(map(len, pieces)))}
    tags = {tag: what for tag, what in (tags | changed).items() if what[1]}
    entries = b""
    word, wide = ("Q", 8) if big else ("I", 4)
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I', 7: 'B', 16: 'Q'}[kind] }", *values)
        entries += struct.pack(f"{order}HH{word}", tag, kind, len(values))
        entries += raw.ljust(wide, b"\0") if len(raw) <= wide else struct.pack(order + word, put(raw))
    at = put(struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(wide))
    struct.pack_into(order + word, out, 8 if big else 4, at)
    return bytes(out)


def _piece(layout: Layout, plane: np.ndarray, top: int, left: int, tall: int, wide: int) -> bytes:
    """Return the uncompressed bytes of one strip or tile; a tile is padded with the last row and column."""
    part = plane[top : top + tall, left : left + wide]
    if layout.tile:
        part = np.pad(part, ((0, tall - part.shape[0]), (0, wide - part.shape[1]), (0, 0)), mode="edge")
    rows, depth = len(part), part.shape[2]
    if layout.bits not in (8, 16, 32, 64):
        bits = (part[..., None] >> np.arange(layout.bits - 1, -1, -1)) & 1
        return np.packbits(bits.reshape(rows, -1).astype(np.uint8), axis=1).tobytes()
    size = layout.bits // 8
    if layout.predictor == 3:
        heavy = part.astype(f">f{size}").reshape(rows, -1).view(np.uint8).reshape(rows, -1, size)
        line = heavy.transpose(0, 2, 1).reshape(rows, -1)
        return np.concatenate([line[:, :depth], line[:, depth:] - line[:, :-depth]], axis=1).tobytes()
    if layout.predictor == 2:
        whole = np.ascontiguousarray(part).view(f"u{size}")
        part = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
    return part.astype(part.dtype.newbyteorder(layout.order)).tobytes()


def _packed(layout: Layout, raw: bytes) -> bytes:
    packed = {1: bytes, 5: lzw, 8: zlib.compress, 32773: packbits}[layout.compression](raw)
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed) if layout.fill_order == 2 else packed


def lzw(raw: bytes) -> bytes:
    """Compress by the pseudocode of TIFF 6.0, section 13."""
    bits = 9
    numbers: list[tuple[int, int]] = [(256, bits)]
    table = {bytes([value]): value for value in range(256)}
    free, string = 258, b""
    for at in range(len(raw)):
        longer = string + raw[at : at + 1]
        if longer in table:
            string = longer
            continue
        numbers.append((table[string], bits))
        table[longer] = free
        free += 1
        if free == 4095:  # the next code would be the last of 12 bits
            numbers.append((256, 12))
            table = {bytes([value]): value for value in range(256)}
            free, bits = 258, 9
        elif free + 1 > 1 << bits:
            bits += 1
        string = raw[at : at + 1]
    numbers += [(table[string], bits)]
    free += 1
    numbers += [(257, min(12, bits + (free + 1 > 1 << bits)))]
    text = "".join(f"{code:0{length}b}" for code, length in numbers)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def packbits(raw: bytes) -> bytes:
    """Compress with PackBits: runs of three and more bytes are repeated, all others are literal."""
    out, at = bytearray(), 0
    while at < len(raw):
        run = 1
        while run < 128 and raw[at : at + 1] == raw[at + run : at + run + 1]:
            run += 1
        if run > 2:
            out += bytes([257 - run]) + raw[at : at + 1]
            at += run
            continue
        end = at + 1
        while end < min(len(raw), at + 128) and raw[end : end + 3] != raw[end : end + 1] * 3:
            end += 1
        out += bytes([end - at - 1]) + raw[at:end]
        at = end
    return bytes(out)
