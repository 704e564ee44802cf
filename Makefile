# Each target makes the virtual environment it needs, once: a stamp file records an
# install and is older than pyproject.toml or the constraints when that has to be redone.
#
#   PYTHON=python3.12      the interpreter that makes the environments
#   PIP_ARGS="..."         more arguments for pip, for example an index
#   TESTS="tests/shallow"  what `make test` runs (default: everything)
#   WORKERS=2              processes of pytest
#   BENCH="import"         which benchmarks `make bench` runs (default: all)

VENV := .venv
OLDEST := .venv-oldest
WORKERS := 2
TESTS :=
BENCH :=
CODE := skproto tests examples benchmarks docs

export PYTHON PIP_ARGS

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-oldest lint format bench docs clean

help: ## list the targets
	@echo "skproto: make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		awk -F'|' '{printf "  %-13s %s\n", $$1, $$2}'

demo: $(VENV)/stamp-demo ## install and run the quick start: real tables, explained by cases
	@build_tools/run_demo.sh $(VENV)/bin/python $(VENV)/demo.log

test: $(VENV)/stamp-test ## install and run the whole suite, doctests included
	@build_tools/run_tests.sh test $(VENV)/bin/python $(VENV)/test.log \
		-n $(WORKERS) $(TESTS)

test-oldest: $(OLDEST)/stamp-test ## run the suite on the oldest versions the metadata allow
	@build_tools/run_tests.sh test-oldest $(OLDEST)/bin/python $(OLDEST)/test.log \
		-n $(WORKERS) $(TESTS)

lint: $(VENV)/stamp-lint ## check format, code, types and the direction of imports
	@echo "lint: ruff format, ruff check, mypy, import-linter"
	@$(VENV)/bin/ruff format --check $(wildcard $(CODE))
	@$(VENV)/bin/ruff check $(wildcard $(CODE))
	@$(VENV)/bin/mypy skproto
	@$(VENV)/bin/lint-imports
	@echo "lint: clean"

format: $(VENV)/stamp-lint ## let ruff write the format and the repairs it is sure of
	@$(VENV)/bin/ruff check --fix $(wildcard $(CODE))
	@$(VENV)/bin/ruff format $(wildcard $(CODE))

bench: $(VENV)/stamp-bench ## run the benchmarks (long; those on shared data need ../shared/data)
	@$(VENV)/bin/python benchmarks/run.py $(BENCH)

docs: $(VENV)/stamp-docs ## build the documentation, warnings are errors
	@echo "docs: building docs/_build/html"
	@OMP_NUM_THREADS=1 MPLBACKEND=Agg $(VENV)/bin/python -m sphinx -W --keep-going -q \
		-b html docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

clean: ## remove environments, caches and everything generated
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	rm -rf docs/_build docs/generated docs/auto_examples docs/gen_modules
	rm -rf docs/sg_execution_times.rst benchmarks/results
	rm -rf demo_output examples/demo_output
	find skproto tests examples benchmarks docs -name __pycache__ -prune \
		-exec rm -rf {} + 2>/dev/null || true

# One stamp for each set of extras; the environment is shared.
$(VENV)/stamp-demo: EXTRAS := plot,html,progress
$(VENV)/stamp-test: EXTRAS := test
$(VENV)/stamp-lint: EXTRAS := lint
$(VENV)/stamp-bench: EXTRAS := all
$(VENV)/stamp-docs: EXTRAS := docs

$(VENV)/stamp-%: pyproject.toml constraints.txt
	@build_tools/make_venv.sh $* $(VENV) "$(EXTRAS)" constraints.txt
	@touch $@

$(OLDEST)/stamp-test: pyproject.toml constraints-oldest.txt
	@build_tools/make_venv.sh test-oldest $(OLDEST) test constraints-oldest.txt
	@touch $@
