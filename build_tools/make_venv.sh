#!/bin/sh
# Make a virtual environment (if it is not there) and install skproto into it.
#
#     make_venv.sh TARGET VENV EXTRAS CONSTRAINTS
#
# TARGET is the make target that is speaking. PYTHON names the interpreter; without it
# the first of python3.13, python3.12, python3.11 and python3 that will do is taken.
# PIP_ARGS is handed to pip, for example to name another package index.
set -eu

target=$1 venv=$2 extras=$3 constraints=$4

say() { printf '%s: %s\n' "$target" "$*"; }

usable() { # at least 3.11, and able to make an environment with pip in it
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        "$1" -c 'import ensurepip, venv' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if usable "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "no Python that will do among: ${PYTHON:-python3.13 python3.12 python3.11 python3}" >&2
    say "needed: Python >= 3.11 with the modules venv and ensurepip" \
        "(Debian and Ubuntu: package python3-venv). Name one with" \
        "'make $target PYTHON=/path/to/python3.11'." >&2
    return 1
}

install() { # what pip prints goes to the log and, if it fails, to the screen
    # shellcheck disable=SC2086  # PIP_ARGS is a list of words
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        ${PIP_ARGS:-} -c "$constraints" -e ".[$extras]" >"$venv/install.log" 2>&1
}

explain_failure() {
    cat "$venv/install.log" >&2
    unreachable='NewConnectionError|ConnectTimeout|ReadTimeout|Max retries exceeded'
    unreachable="$unreachable|name resolution|Name or service not known|ProxyError"
    unreachable="$unreachable|Network is unreachable|from versions: none"
    if grep -E -q "$unreachable" "$venv/install.log"; then
        say "the package index could not be reached (pip's own words are above)." \
            "Check the network, or name an index with" \
            "'make $target PIP_ARGS=\"--index-url URL\"'." >&2
    else
        say "pip could not install skproto[$extras] (its own words are above)." >&2
    fi
}

start=$(date +%s)
if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
say "installing skproto[$extras] into $venv (the first time takes a few minutes)"
if ! install; then
    explain_failure
    exit 1
fi
say "installed in $(($(date +%s) - start)) s"
