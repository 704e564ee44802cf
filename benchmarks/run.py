"""Run the benchmarks one after another and say how each ended.

Every ``*.py`` beside this file is a script of its own, but for helpers, whose names
start with an underscore. A script that needs the shared data sets says so and ends well
where they are absent. Names given on the command line choose among them:
``python benchmarks/run.py import tables``.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def chosen(names):
    """Scripts to run, in alphabetical order; an unknown name ends the run."""
    scripts = {
        file.stem.removeprefix("bench_"): file
        for file in FOLDER.glob("[!_]*.py")
        if file != Path(__file__).resolve()
    }
    unknown = sorted({name.removeprefix("bench_") for name in names} - set(scripts))
    if unknown:
        known = ", ".join(sorted(scripts))
        raise SystemExit(
            f"bench: no benchmark named {', '.join(unknown)}; have {known}"
        )
    wanted = {name.removeprefix("bench_") for name in names} or set(scripts)
    return [scripts[name] for name in sorted(wanted)]


def run(script):
    """Run one script with its output shown; return its status and seconds."""
    print(f"bench: {script.name}", flush=True)
    start = time.perf_counter()
    environment = {"MPLBACKEND": "Agg", **os.environ}
    done = subprocess.run([sys.executable, "-u", script], env=environment, check=False)
    return done.returncode, time.perf_counter() - start


def main(names):
    results = {script.name: run(script) for script in chosen(names)}
    print("bench: summary")
    for name, (status, seconds) in results.items():
        outcome = "done" if status == 0 else f"FAILED with status {status}"
        print(f"  {name:<28} {outcome} in {seconds:.0f} s")
    failed = sum(status != 0 for status, _ in results.values())
    print(f"bench: {len(results) - failed} done, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
