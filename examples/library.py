"""The same work from Python: python library.py DATA_FOLDER RUN_FOLDER"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow talks a lot

from imgclf import predict, train
from imgclf.clean import cleaning
from imgclf.core.config import TrainConfig
from imgclf.evaluate import evaluating
from imgclf.split import splitting


def main(data: Path, run_dir: Path) -> None:
    print(cleaning.clean(data).counts())
    print(splitting.split(data).manifest.counts())
    bundle = train.train(data, TrainConfig(epochs=3), run_dir=run_dir)
    if bundle is None:
        return  # one of several workers (TF_CONFIG), and not the chief, who has the run
    result = evaluating.evaluate(bundle)
    low, high = result.interval
    print(f"accuracy {result.accuracy:.3f} ({low:.3f} to {high:.3f}) on {result.on}; {result.baseline.words}")
    for record in predict.predict(bundle, [str(data)]):
        if record.error is None and record.probability is not None and record.probability < 0.6:
            print(f"unsure: {record.input} {record.label} {record.probability:.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
