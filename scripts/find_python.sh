#!/bin/sh
# Print a Python that can run the project (3.11 or 3.12): python3 if it is one, else python3.12, else python3.11.
# A name on the PATH is not enough (pyenv's shims answer to versions that are not active), so each is run.
for candidate in "${PYTHON:-python3}" python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done
echo "No Python 3.11 or 3.12 found (python3 is $(python3 --version 2>&1)). Install one (Debian: apt-get install python3.11 python3.11-venv;" >&2
echo "pyenv: pyenv install 3.12 && pyenv shell 3.12), or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
