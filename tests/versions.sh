#!/usr/bin/env bash
# The main commands at an end of the version ranges in pyproject.toml:  bash tests/versions.sh lowest|newest [FOLDER]
#
# Sets up an environment of its own in FOLDER (a temporary one unless given, which saves the downloads of a second run), runs
# clean, preview, split, train, evaluate, predict and export there, and opens the run's model.keras in several versions of Keras.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
end=${1:?lowest or newest}
if [ $# -gt 1 ]; then
    mkdir -p "$2"
    folder=$(cd "$2" && pwd)
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
source "$project/examples/setup.sh"

python=$(find_python)
"$python" - "$project/pyproject.toml" "$end" > "$folder/$end.txt" <<'PYTHON'
import re, sys, tomllib
with open(sys.argv[1], "rb") as file:
    needed = tomllib.load(file)["project"]["dependencies"]
for one in needed if sys.argv[2] == "lowest" else ():
    name, least = re.match(r"([\w-]+)>=([\d.]+)", one).groups()
    print(f"{name}=={least}")
PYTHON
make_environment "$folder/$end" --constraint "$folder/$end.txt" --upgrade "$project"
here=$folder/$end/bin
"$here/python" -m pip list 2>/dev/null | grep -iE '^(keras|tensorflow|numpy|opencv-python(-headless)?|typer|rich|pandas|matplotlib|ai-edge-litert|flatbuffers) '

work=$(mktemp -d "$folder/work-XXXX")
cd "$work"
"$here/python" - <<'PYTHON'
import os, cv2, numpy
for number, label in enumerate(("blue", "green", "red")):
    os.makedirs(f"data/{label}")
    for index in range(24):
        noise = numpy.random.default_rng([number, index]).normal(0, 25, (48, 48, 3))
        noise[..., number] += 60
        cv2.imwrite(f"data/{label}/{index}.png", (90 + noise).clip(0, 255).astype(numpy.uint8))
PYTHON
export XDG_CACHE_HOME=$work/cache
for words in "clean data" "preview data" "split data" "train --epochs 3 --batch-size 8 --run-dir runs/cnn" "evaluate" \
    "export --format litert" "export --format saved-model" "export --format keras" \
    "train --epochs 3 --model efficientnet-lite0 --image-size 64 --run-dir runs/lite0" "evaluate" "predict data/red/0.png"; do
    echo "$end: imgclf $words"
    # shellcheck disable=SC2086  # words are words
    "$here/imgclf" $words --quiet > printed.txt 2>&1 || { cat printed.txt; exit 1; }
done

for version in 3.13.0 3.14.0 newest; do
    only=keras
    [ "$version" = newest ] || only=keras==$version
    "$here/python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "keras-$version" "$only" 2>/dev/null
    PYTHONPATH=keras-$version TF_CPP_MIN_LOG_LEVEL=3 KERAS_HOME=$work "$here/python" - 2>/dev/null <<'PYTHON'
import json, cv2, keras, numpy
image = cv2.imread("data/red/0.png")[..., ::-1]
for run in ("cnn", "lite0"):
    network = keras.saving.load_model(f"runs/{run}/model.keras")
    side = network.input_shape[1]
    answer = network(cv2.resize(image, (side, side))[None].astype("float32"), training=False).numpy()[0]
    assert abs(answer.sum() - 1) < 1e-5, answer
    numpy.save(f"{run}-{keras.__version__}.npy", answer)
    print(f"Keras {keras.__version__} opens {run}/model.keras: {[round(float(one), 4) for one in answer]}")
PYTHON
done
"$here/python" - <<'PYTHON'
import glob, numpy
for run in ("cnn", "lite0"):
    answers = [numpy.load(path) for path in sorted(glob.glob(f"{run}-*.npy"))]
    assert all(abs(one - answers[0]).max() < 1e-6 for one in answers), answers
PYTHON
rm -rf "$work"
echo "$end: passed"
