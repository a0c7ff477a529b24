"""The plain tutorial script that imgclf is measured against: accuracy and images/s on the same split.

    python tests/benchmarks/plain_keras.py EXPORTED_SPLIT [--epochs 10]

EXPORTED_SPLIT is made by `imgclf split --export`. 256 x 256 pixels, Conv2D 16, 32, 16 with max pooling, Dense 256, Adam: the
network of a popular image classification tutorial, with the last epoch scored on the test part.
"""

import argparse
import time
from pathlib import Path

import keras
from keras import layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)

    def load(part: str) -> object:
        data = keras.utils.image_dataset_from_directory(
            options.folder / part, label_mode="binary", image_size=(256, 256), seed=options.seed, verbose=False
        )
        return data.map(lambda x, y: (x / 255, y)).prefetch(2)

    network = keras.Sequential([keras.Input((256, 256, 3))])
    for filters in (16, 32, 16):
        network.add(layers.Conv2D(filters, 3, activation="relu"))
        network.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dense(1, activation="sigmoid")):
        network.add(layer)
    network.compile("adam", loss="binary_crossentropy", metrics=["accuracy"])
    count = sum(1 for path in (options.folder / "train").rglob("*") if path.is_file())
    start = time.perf_counter()
    network.fit(load("train"), validation_data=load("val"), epochs=options.epochs, verbose=2)
    spent = time.perf_counter() - start
    _loss, accuracy = network.evaluate(load("test"), verbose=0)
    print(
        f"{options.epochs} epochs in {spent:.0f} s, {count * options.epochs / spent:.0f} images/s; test accuracy {accuracy:.4f}"
    )


if __name__ == "__main__":
    main()
