#!/bin/sh
# Print a Python that can run the project (3.11 to 3.13): python3 if it is one, else python3.12, 3.11 or 3.13.
# With PYTHON, only that one. A name on the PATH is not enough (pyenv's shims answer to versions that are not active),
# so each is run.
set -- python3 python3.12 python3.11 python3.13
[ -z "$PYTHON" ] || set -- "$PYTHON"
for candidate; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done
echo "No Python 3.11 to 3.13 found (${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1 | head -n 1)). Install one (Debian: apt-get install python3.11 python3.11-venv;" >&2
echo "pyenv: pyenv install 3.12 && pyenv shell 3.12), or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
