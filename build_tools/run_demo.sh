#!/bin/sh
# Run the quick start and close with one line that names what it wrote.
#
#     run_demo.sh PYTHON LOG
set -eu

python=$1 log=$2

last_path() { # the last word that ends in .$1, without punctuation around it
    tr -s '[:space:]' '\n' <"$log" | sed -n "s/^[^A-Za-z0-9._/~-]*\(.*\.$1\)[^A-Za-z0-9]*\$/\1/p" | tail -n 1
}

start=$(date +%s)
echo "demo: running examples/plot_quickstart.py (about a minute on 2 cores)"
status=0
{ MPLBACKEND=Agg "$python" -u examples/plot_quickstart.py || echo $? >"$log.status"; } |
    tee "$log"
if [ -f "$log.status" ]; then
    status=$(cat "$log.status")
    rm -f "$log.status"
    echo "demo: FAILED, examples/plot_quickstart.py ended with status $status" >&2
    exit "$status"
fi
echo "demo: done in $(($(date +%s) - start)) s; picture $(last_path png), page $(last_path html)"
