#!/bin/sh
# Run the suite and close with one line that repeats pytest's own count.
#
#     run_tests.sh TARGET PYTHON LOG [pytest arguments]
set -eu

target=$1 python=$2 log=$3
shift 3

rm -f "$log.status"
"$python" - "$target" <<'PY'
import platform
import sys
from importlib.metadata import version

names = ("scikit-learn", "skorch", "torch", "numpy", "pandas")
found = ", ".join(f"{name} {version(name)}" for name in names)
print(f"{sys.argv[1]}: Python {platform.python_version()}, {found}")
PY
echo "$target: pytest $*"
{ OMP_NUM_THREADS=1 MPLBACKEND=Agg "$python" -m pytest "$@" 2>&1 || echo $? >"$log.status"; } |
    tee "$log"
counts=$(sed -n -E 's/^=* ?([0-9]+ .* in [0-9.]+s( \([0-9:]+\))?) ?=*$/\1/p' "$log" |
    tail -n 1)
if [ -f "$log.status" ]; then
    status=$(cat "$log.status")
    rm -f "$log.status"
    echo "$target: FAILED, ${counts:-no test was counted} (pytest ended with status $status)"
    exit "$status"
fi
echo "$target: $counts"
