"""Fuzz the decoder and the reader of PyTorch checkpoints: atheris, guided by coverage, mutates small valid files.

    python tests/benchmarks/fuzz.py --seconds 600

For any bytes, the decoder must return (h, w, 3) uint8 pixels or raise ImageError, `clean` must find the same problem, and the
size in the header must equal that of the pixels. The reader must return tensors or raise ValueError. Anything else, more than
10 s for one input, or 2 GB of memory stop the run with the path of the input.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

CHILD = "--child"  # the first argument of the fuzzed process
MAX_PIXELS = 1 << 18  # instead of 134 million; larger images are refused by the same line of code


def seeds(folder: Path) -> None:
    """Write small valid files of every format, and a checkpoint; the first byte distinguishes the two."""
    from conftest import encoded, photo
    from test_backbones import checkpoint

    from imgclf.images.formats import filetypes

    image = photo(0, 24, 16)
    forms = {"JPEG": {}, "PNG": {}, "BMP": {}, "GIF": {}, "TIFF": {}, "WEBP": {}, "AVIF": {}, "PPM": {}}
    number = 0
    for form, options in forms.items():
        for mode in ("RGB", "L", "P", "RGBA", "CMYK", "I;16", "1"):
            try:
                content = encoded(image.convert("RGB").convert(mode), form, **options)
            except (OSError, ValueError, KeyError):  # not every format has every mode
                continue
            if filetypes.sniff(content[:32]):
                (folder / f"seed{number:03d}").write_bytes(b"\0" + content)
                number += 1
    turned = image.getexif()
    turned[274] = 6
    for form in ("JPEG", "PNG", "WEBP"):
        (folder / f"exif{form}").write_bytes(b"\0" + encoded(image, form, exif=turned))
    frames = [photo(seed, 24, 16) for seed in range(3)]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        (folder / f"frames{form}").write_bytes(b"\0" + encoded(frames[0], form, save_all=True, append_images=frames[1:]))
    tensors = {"weight": ("a", "FloatStorage", 0, (3, 4), (4, 1)), "bias": ("b", "HalfStorage", 2, (2,), (1,))}
    (folder / "checkpoint").write_bytes(b"\1" + checkpoint(tensors, {"a": bytes(48), "b": bytes(8)}))


def fuzz(arguments: list[str]) -> None:
    """Run the fuzzer in the child process. Does not return."""
    import atheris

    with atheris.instrument_imports(include=["imgclf"]):
        from imgclf.core.errors import ImageError
        from imgclf.images import decode, header, measurements
        from imgclf.models import torch_checkpoint

    header.MAX_PIXELS = MAX_PIXELS
    file = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "input"

    def one(data: bytes) -> None:
        kind, content = data[:1], data[1:]
        if kind == b"\1":
            file.write_bytes(content)
            with contextlib.suppress(ValueError):
                torch_checkpoint.read(file)
            return
        _record, problem, _thumbnail = measurements.measure(content)
        try:
            image = decode.decode(content)
        except ImageError as error:
            assert problem == str(error), (problem, error)
            return
        assert not problem, problem
        assert image.dtype == "uint8"
        assert image.ndim == 3
        assert image.shape[2] == 3
        head = header.header(content)
        if head.format == "AVIF":  # the header gives the largest size anywhere in the file
            assert head.width * head.height >= image.size // 3, (head, image.shape)
        else:
            assert sorted((head.width, head.height)) == sorted(image.shape[:2]), (
                head,
                image.shape,
            )  # the image may be rotated

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, found = Path(folder, "corpus"), Path.cwd()
        corpus.mkdir()
        seeds(corpus)
        limits = [
            f"-max_total_time={options.seconds}",
            "-max_len=4096",
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        done = subprocess.run(
            [sys.executable, __file__, CHILD, f"-seed={options.seed}", f"-artifact_prefix={found}/fuzz-", *limits, corpus]
        )
        print(f"{len(list(corpus.iterdir())):,} inputs with different coverage; exit code {done.returncode}")
        sys.exit(done.returncode)


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        fuzz(sys.argv[2:])
    main()
