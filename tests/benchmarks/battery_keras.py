"""Train the network of Keras' example "Image classification from scratch", and predict a test set. Used by battery.py.

    python tests/benchmarks/battery_keras.py FOLDER RESULT.npy [--side 180] [--epochs 25] [--seconds 400] [--seed 0]

FOLDER has the class folders of train, val and test. Source: keras.io/examples/vision/image_classification_from_scratch (the
version of 2024): a small Xception with 128, 256, 512 and 728 filters, random flips and rotations by up to a tenth of a turn,
dropout 0.25, Adam at 0.0003, batches of 128, 180 x 180 pixels, 25 epochs. As in imgclf, the best epoch by validation accuracy,
then loss, is kept. With --seconds, training ends after the epoch in which the time runs out. RESULT.npy receives the
probabilities of the test images (n, classes), sorted by path.
"""

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from plain_keras import Best


def network(side: int, classes: int) -> keras.Model:
    inputs = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(128, 3, strides=2, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for filters in (256, 512, 728):
        shortcut = layers.Conv2D(filters, 1, strides=2, padding="same")(x)
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.add([layers.MaxPooling2D(3, strides=2, padding="same")(x), shortcut])
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.SeparableConv2D(1024, 3, padding="same")(x)))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    outputs = layers.Dense(1, activation="sigmoid") if classes == 2 else layers.Dense(classes, activation="softmax")
    model = keras.Model(inputs, outputs(x))
    loss = "binary_crossentropy" if classes == 2 else "categorical_crossentropy"
    model.compile(keras.optimizers.Adam(3e-4), loss, metrics=["accuracy"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--side", type=int, default=180)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    classes = sum(1 for path in (options.folder / "train").iterdir() if path.is_dir())

    def load(subset: str) -> Any:
        return keras.utils.image_dataset_from_directory(
            options.folder / subset,
            label_mode="binary" if classes == 2 else "categorical",
            image_size=(options.side, options.side),
            batch_size=128,
            shuffle=subset == "train",
            seed=options.seed,
            verbose=False,
        )

    change = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    train = load("train").map(lambda images, labels: (change(images, training=True), labels)).prefetch(2)
    model, best = network(options.side, classes), Best(options.seconds)
    model.fit(train, validation_data=load("val").prefetch(2), epochs=options.epochs, verbose=2, callbacks=[best])
    model.set_weights(best.weights)
    found = model.predict(load("test"), verbose=0)
    np.save(options.result, np.hstack([1 - found, found]) if classes == 2 else found)


if __name__ == "__main__":
    main()
