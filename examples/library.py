"""Clean, split, train, evaluate and predict from Python: python library.py DATA_FOLDER RUN_FOLDER

Each line of `main` also works on its own in a notebook.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hide TensorFlow's log

from imgclf.api import TrainConfig, clean, evaluate, predict, split, train


def main(data: str, run_dir: str) -> None:
    print(clean(data).counts())
    print(split(data).manifest.counts())
    bundle = train(data, TrainConfig(epochs=3), run_dir=run_dir)
    if bundle is None:
        return  # with several workers (TF_CONFIG), only the chief gets the run
    result = evaluate(bundle)
    low, high = result.interval
    print(f"accuracy {result.accuracy:.3f} ({low:.3f} to {high:.3f}) on {result.on}; {result.baseline.words}")
    for prediction in predict(bundle, data):
        if prediction.error is None and prediction.probability is not None and prediction.probability < 0.6:
            print(f"unsure: {prediction.input} {prediction.label} {prediction.probability:.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
