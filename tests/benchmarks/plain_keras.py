"""Train a plain Keras network, to compare `imgclf train` with it on the same split and seed, for the same epochs or time.

    python tests/benchmarks/plain_keras.py EXPORTED_SPLIT [--epochs 30] [--seconds 170] [--seed 0]

Make EXPORTED_SPLIT with `imgclf split --export`. The network is that of a popular tutorial (256 x 256 pixels, Conv2D 16, 32
and 16 with max pooling, Dense 256, Adam at 0.001) with the random flips, rotations and zooms of Keras' own tutorial. As in
imgclf, the best epoch by validation accuracy, then loss, is scored on the test set. With --seconds, training ends after the
epoch in which the time runs out. The network is not tuned: no learning rate schedule, no normalisation, no class weights, one
image size. The last line of the output is JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

SIDE = 256


class Best(keras.callbacks.Callback):
    """Keep the weights of the best epoch, and stop the training when the time is up."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self.end = None if seconds is None else time.perf_counter() + seconds
        self.rank, self.epoch, self.epochs = (-1.0, 0.0), 0, 0
        self.weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        known = logs or {}
        self.epochs = epoch + 1
        rank = known["val_accuracy"], -known["val_loss"]
        if rank > self.rank:
            self.rank, self.epoch, self.weights = rank, epoch + 1, self.model.get_weights()
        if self.end is not None and time.perf_counter() > self.end:
            self.model.stop_training = True


def network(classes: int) -> keras.Sequential:
    made = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255)])
    for change in (layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)):
        made.add(change)
    for filters in (16, 32, 16):
        made.add(layers.Conv2D(filters, 3, activation="relu"))
        made.add(layers.MaxPooling2D())
    made.add(layers.Flatten())
    made.add(layers.Dense(256, activation="relu"))
    made.add(layers.Dense(1, activation="sigmoid") if classes == 2 else layers.Dense(classes, activation="softmax"))
    made.compile("adam", "binary_crossentropy" if classes == 2 else "categorical_crossentropy", metrics=["accuracy"])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--probabilities", type=Path, help="file (.npy) for the probabilities of the test images, by path")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    classes = sum(1 for path in (options.folder / "train").iterdir() if path.is_dir())

    def load(subset: str) -> Any:
        return keras.utils.image_dataset_from_directory(
            options.folder / subset,
            label_mode="binary" if classes == 2 else "categorical",
            image_size=(SIDE, SIDE),
            shuffle=subset != "test",
            seed=options.seed,
            verbose=False,
        ).prefetch(2)

    model, best = network(classes), Best(options.seconds)
    start = time.perf_counter()
    model.fit(load("train"), validation_data=load("val"), epochs=options.epochs, verbose=2, callbacks=[best])
    spent = time.perf_counter() - start
    model.set_weights(best.weights)
    test = load("test")
    _loss, accuracy = model.evaluate(test, verbose=0)
    if options.probabilities:
        found = model.predict(test, verbose=0)
        np.save(options.probabilities, np.hstack([1 - found, found]) if classes == 2 else found)
    count = sum(len(labels) for _images, labels in test)
    result = {"accuracy": accuracy, "images": count, "best_epoch": best.epoch, "epochs": best.epochs, "seconds": spent}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
