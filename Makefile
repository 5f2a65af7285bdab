# On a fresh machine with Python 3.11 to 3.14, pip and make:
#   make demo    score the examples with the included scorer, select sets, draw the report (INPUT=path: your own file)
#   make test    run the tests
#   make test-transformers4   run those of training and experts with the oldest transformers, and with optimum
#   make check   run the linters and the type checker
#   make docs-site   build the site of the documentation into build/site
#   make dist    build wheel and sdist, and try the wheel in an environment of its own
#   make starter RELEASE=val_results.json UNLABELLED="a.jsonl b.json" [WORK=folder JOBS=6 SMALL=1]   make the included scorer anew
# Each creates .venv with the versions pinned in constraints.txt.

PYTHON ?= python3
INPUT ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

WORK ?= starter-work
JOBS ?= 1
TEACHER_BACKBONE ?= sentence-transformers/all-mpnet-base-v2
STUDENT_BACKBONE ?= sentence-transformers/all-MiniLM-L6-v2

.PHONY: demo test test-all test-transformers4 check format docs docs-site dist lock clean starter

demo: $(VENV)/base
	@$(BIN)/empathy demo $(INPUT)

# Three processes run the tests, as each waits at times; with more threads in each they would slow each other down.
test test-all test-transformers4: export OMP_NUM_THREADS = 1
# Each process that a test starts would else compile the code anew, where this is set.
test test-all test-transformers4: export PYTHONDONTWRITEBYTECODE =
# Whole files, one after another as they lie: large ones first would leave the longest, which are not the largest, for last.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(VENV)/dev
	$(PYTEST) -m "not slow"

test-all: $(VENV)/dev
	$(PYTEST)

# An environment of its own: optimum wants transformers 4, sentence-transformers wants 5.
OLD := build/transformers4

test-transformers4: $(VENV)/pip
	$(PYTHON) -m venv $(OLD)
	$(OLD)/bin/python -m pip install --quiet --upgrade pip==26.3
	grep -vE '^(transformers|tokenizers|huggingface-hub|sentence-transformers)==' constraints.txt > $(OLD)/constraints.txt
	cat constraints-transformers4.txt >> $(OLD)/constraints.txt
	$(OLD)/bin/python -m pip install --quiet --constraint $(OLD)/constraints.txt \
		--editable '.[dev,distill,select,moe,optimum]'
	$(OLD)/bin/python -m pytest -n 2 --dist loadfile -m "not slow" tests/distill/exporting tests/distill/training tests/moe

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Write docs/commands.md from the help texts of the commands, and what the notebook prints.
docs: $(VENV)/dev
	$(BIN)/python -m tests.test_docs
	$(BIN)/python -m tests.test_notebook

# The strict build fails on a broken link; mkdocs would print an advertisement.
docs-site: export NO_MKDOCS_2_WARNING = 1

docs-site: $(VENV)/docs
	$(BIN)/mkdocs build --strict

# Wheel and sdist in dist/, the wheel made from the sdist; then the wheel scores, without anything of this folder.
dist: $(VENV)/dev
	rm -rf dist build/clean
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --constraint constraints.txt "$$(ls dist/*.whl)[select]"
	cd build/clean && bin/empathy demo --output demo

# From the data to the bundle in $(WORK)/starter; a killed run continues. JOBS fits run at once: 6 suit a large GPU.
# SMALL=1 is what two cores do in four hours and a quarter: so the starter that ships was made (benchmarks/README.md).
starter: $(VENV)/dev
	$(BIN)/python -m benchmarks.starter $(RELEASE) $(UNLABELLED) --work $(WORK) --jobs $(JOBS) \
		--teacher-backbone $(TEACHER_BACKBONE) --student-backbone $(STUDENT_BACKBONE) \
		$(if $(SMALL),--small)

# Update constraints.txt after a change of pyproject.toml; needs uv. torch keeps the version that was measured.
lock:
	echo "torch==2.13.0" | uv pip compile pyproject.toml --extra all --extra docs --universal --python-version 3.11 \
		--no-header --no-annotate --constraint - --output-file constraints.txt --upgrade

$(VENV)/pip:
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 15) else \
		'Python %d.%d found, 3.11 to 3.14 needed: make PYTHON=/path/to/python3.12' % v)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip==26.3
	@touch $@

$(VENV)/base: $(VENV)/pip pyproject.toml constraints.txt
	$(INSTALL) --editable '.[select]'
	@touch $@

$(VENV)/dev: $(VENV)/base
	$(INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/docs: $(VENV)/base
	$(INSTALL) --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
