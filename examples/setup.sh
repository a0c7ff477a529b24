# Sourced by quickstart.sh and tests/run.sh: make a virtual environment with imgclf in it.
#
#     make_environment FOLDER WHAT     WHAT: the arguments of `pip install`, such as . or -e .[dev]
#
#     offer_chromium FOLDER            install Chromium for the tests of pages, which are skipped without it
#
# Needs Linux or macOS, Python 3.11 to 3.13 with venv and pip, and a connection to a package index.

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11, 3.12 or 3.13 is needed and was not found; install one, or name it: PYTHON=/path/to/python3" >&2
    return 1
}

make_environment() {
    local folder=$1 python
    shift
    python=$(find_python) || return 1
    if [ ! -x "$folder/bin/python" ]; then
        "$python" -m venv "$folder" || {
            echo "Python's venv module does not work here (Debian: apt-get install python3-venv)" >&2
            return 1
        }
    fi
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" || return 1
    # The opencv-python wheel needs the system's libGL, which a server without a display lacks; opencv-python-headless does not.
    if ! "$folder/bin/python" -c 'import cv2' 2>/dev/null; then
        echo "no libGL on this machine: installing opencv-python-headless instead of opencv-python"
        # Uninstall both: they share files, and after an earlier run the headless wheel is installed with half of them overwritten.
        "$folder/bin/python" -m pip uninstall --quiet --yes opencv-python opencv-python-headless || return 1
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check 'opencv-python-headless>=5.0' || return 1
        "$folder/bin/python" -c 'import cv2' || return 1
    fi
}

offer_chromium() {
    has_page_tools "$1" && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then  # Playwright's driver needs libatomic, which a bare Debian lacks
        (apt-get update && apt-get install --yes --no-install-recommends chromium libatomic1) >/dev/null 2>&1
        has_page_tools "$1" && return
    fi
    echo "no Chromium on this machine, or Playwright does not start: the tests of pages are skipped" \
        "(Debian: apt-get install chromium libatomic1)" >&2
}

has_page_tools() {
    { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null &&
        "$1/bin/python" -c 'from playwright.sync_api import sync_playwright; sync_playwright().start().stop()' 2>/dev/null
}
