#!/usr/bin/env bash
# Install imgclf and train a first classifier on a new machine:  bash examples/quickstart.sh [FOLDER]
#
# Sets up a virtual environment, makes a small data set of real photographs (three textures, CC0, from the scikit-image
# package) with damaged and misnamed files among them, and runs six commands on it. Everything is written to FOLDER
# (default: example/ in this project), which you may delete afterwards.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$project/example}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
source "$project/examples/setup.sh"

echo "Setting up in $folder (TensorFlow is a download of 600 MB; later runs skip it) ..."
make_environment "$folder/venv" "$project"
export PATH="$folder/venv/bin:$PATH"
cd "$folder"

if [ ! -d data ]; then
    python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest photos 'scikit-image>=0.24'
    python "$project/examples/make_dataset.py" photos/scikit_image-*.whl data
fi

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}
run imgclf clean data/
run imgclf preview data/
run imgclf split data/
run imgclf train --epochs 20
run imgclf evaluate
cp data/grass/"$(ls data/grass | head -n 1)" img.jpg
run imgclf predict img.jpg
printf '\nDone. See %s/data/.imgclf/preview.png and the newest folder in %s/runs.\n' "$folder" "$folder"
