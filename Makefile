# Two commands: `make demo` and `make test`. Each sets up its own virtual environment (Python 3.11+).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := runs/demo-$(shell date +%Y%m%d-%H%M%S)
STEPS ?= 28000
TABLE_STEPS ?= 10000
# One thread a process: networks this small only get slower on more.
export OMP_NUM_THREADS := 1

.PHONY: demo test install default-policy base-weights clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("rl-tuner needs Python 3.11 or newer: try make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing rl-tuner and its pinned dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	@touch $@

# The whole road once: learn two policies on one set of jobs, put them on jobs they have never seen, compare.
demo: $(STAMP)
	$(BIN)/rl-tuner train --agent q-learning --num-envs 32 --suite quick --steps $(TABLE_STEPS) --out $(DEMO)/q-learning
	$(BIN)/rl-tuner train --agent ppo --suite quick --steps $(STEPS) --out $(DEMO)/ppo
	$(BIN)/rl-tuner compare $(DEMO)/ppo/policy.safetensors $(DEMO)/q-learning/policy.safetensors \
		constant cosine plateau random@16 --suite quick --split test --jobs 3 --seeds 5 --no-controls \
		--out $(DEMO)/compare

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p rl_tuner
	$(BIN)/mypy examples
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto -m "not slow" --cov --cov-report=term --cov-fail-under=90
	$(BIN)/python -m pytest -n auto -m slow

# The policy that ships as "default"; about a quarter of an hour on one core.
default-policy: $(STAMP)
	$(BIN)/rl-tuner train --agent ppo --num-envs 1 --suite quick --steps 100000 --seed 0 --eval-jobs 60 --out runs/default-policy
	cp runs/default-policy/policy.safetensors rl_tuner/policies/default.safetensors

# The weights that the fine-tuning family starts from; about a quarter of a minute.
base-weights: $(STAMP)
	$(BIN)/python -m rl_tuner.base_weights

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
