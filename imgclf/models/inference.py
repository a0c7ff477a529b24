"""The inference model: model.tflite with its preprocessing, class names and temperature, without TensorFlow."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImgclfError
from imgclf.core.parallel import ordered_map
from imgclf.evaluation import calibration
from imgclf.models import litert_probe
from imgclf.models.litert import Engines

LITERT = "model.tflite"
_BROKEN = "broken run: the model cannot be loaded; retrain"


class InferenceModel:
    """Predict class probabilities of images; thread-safe. A temperature of 1 leaves the network's output unchanged."""

    def __init__(
        self,
        file: Path,
        class_names: tuple[str, ...],
        preprocessing: Preprocessing,
        temperature: float = 1.0,
        *,
        foreign_sha256: str = "",
    ) -> None:
        """foreign_sha256: SHA-256 of a file of unknown origin, which a separate process tests first; "" for a trusted file."""
        self.file, self.class_names, self.preprocessing, self.temperature = file, class_names, preprocessing, temperature
        self._sha256 = foreign_sha256
        before: Callable[[], None] = self._test if foreign_sha256 else lambda: None
        self._engines = Engines(file, self._check_engine, _BROKEN, sha256=foreign_sha256, before=before)

    def probability(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the calibrated probabilities, (classes,), of one (h, w, 3) uint8 image at the preprocessing's size."""
        output = self._engines.output(image).astype(np.float64)
        if not ((output >= 0) & (output <= 1)).all():  # true for NaN too
            raise ImgclfError(f"{self.file}: broken run: the outputs of the model are not probabilities (0 to 1); retrain")
        if len(self.class_names) == 2:
            output = np.array([1 - output[0], output[0]])
        return calibration.apply_temperature(output, self.temperature)

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return the probabilities, (n, classes), of n images at the preprocessing's size, computed on all cores."""
        rows = list(ordered_map(self.probability, images))
        return np.array(rows).reshape(-1, len(self.class_names))

    def remember(self, sha256: str) -> None:
        """Mark the file with this SHA-256 as trusted, because this process wrote it. It is never tested."""
        litert_probe.remember(sha256, self._side, self._outputs)

    @property
    def _side(self) -> tuple[int, int]:
        return self.preprocessing.height, self.preprocessing.width

    @property
    def _outputs(self) -> int:
        return 1 if len(self.class_names) == 2 else len(self.class_names)

    def _check_engine(self, engine: Any) -> None:
        """Raise ImgclfError if the network does not match bundle.json."""
        if problem := litert_probe.mismatch(engine, self._side, self._outputs):
            raise ImgclfError(f"{self.file}: broken run: the model does not match bundle.json: {problem}; retrain")

    def _test(self) -> None:
        """Raise ImgclfError for a model that is not safe to load."""
        litert_probe.check(self.file, self._sha256, self._side, self._outputs)
