"""Compare `imgclf predict` with the saved Keras model, `imgclf evaluate` and every float export, on all test images of a run.

    python tests/benchmarks/equality.py RUN_FOLDER

Keras gets the prepared pixels from `keras.utils.image_dataset_from_directory`, as in training; LiteRT gets the image files.
Prints the largest probability difference and how many labels agree. The temperature is applied to both.
"""

import sys
import tempfile
from pathlib import Path
from typing import get_args

import keras
import numpy as np

from imgclf.core.config import ExportConfig, Format
from imgclf.data import loader, prepared_images
from imgclf.data.manifest import load_subsets, read_manifest
from imgclf.evaluate.evaluating import evaluate
from imgclf.evaluation import calibration
from imgclf.export import formats
from imgclf.export.exporting import export
from imgclf.models.bundle import Bundle
from imgclf.predict import predict


def main(run_dir: Path) -> None:
    run = Bundle.load(run_dir)
    root = Path(run.info.data.path)
    subsets, _notes = load_subsets(root, read_manifest(run_dir / "split.csv"))
    prepared = prepared_images.prepare(root, {"test": subsets["test"]}, run.preprocessing)
    files = sorted(prepared.files["test"])
    network = keras.models.load_model(run_dir / "model.keras")
    batches = loader.Images(prepared, "test").in_order(32)
    expected = np.concatenate([network.predict_on_batch(pixels.astype(np.float32)) for pixels, _targets, _weights in batches])
    if expected.shape[1] == 1:
        expected = np.hstack([1 - expected, expected])
    expected = calibration.apply_temperature(expected.astype(np.float64), run.temperature)
    paths = [str(root / prepared.files["test"][name]) for name in files]
    probabilities = [dict(record.top) for record in predict(run, paths, top=len(run.class_names))]
    found = np.array([[by_class[name] for name in run.class_names] for by_class in probabilities])
    evaluated = {str(root / one["path"]): one for one in evaluate(run).predictions}
    same = sum(
        evaluated[path]["predicted"] == max(by_class, key=by_class.__getitem__)
        for path, by_class in zip(paths, probabilities, strict=True)
    )
    print(f"evaluate and predict: {same} of {len(paths)} labels agree")
    agree = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    print(
        f"{len(files)} test images: largest probability difference {np.abs(found - expected).max():.2e}, {agree} labels agree"
    )

    with tempfile.TemporaryDirectory() as folder:
        for form in get_args(Format):
            done = export(run, ExportConfig(form), out=Path(folder, f"model{formats.FORMATS[form].ending}"))
            same = round(done.agreement * done.images)
            print(f"{form}: largest probability difference {done.difference:.2e}, {same} of {done.images} labels agree")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
