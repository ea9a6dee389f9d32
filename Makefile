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

.PHONY: demo test install base-weights clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("rl-tuner needs Python 3.11 or newer: try make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing rl-tuner and its pinned dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	@touch $@

# The whole road once: learn two policies on one set of jobs, put them on jobs they have never seen, compare them with
# schedules, random search and the policy that comes along. Many jobs once each tell more than few jobs many times.
demo: $(STAMP)
	$(BIN)/rl-tuner train --agent q-learning --num-envs 32 --suite quick --steps $(TABLE_STEPS) --out $(DEMO)/q-learning
	$(BIN)/rl-tuner train --agent ppo --suite quick --steps $(STEPS) --out $(DEMO)/ppo
	$(BIN)/rl-tuner compare $(DEMO)/ppo/policy.safetensors $(DEMO)/q-learning/policy.safetensors \
		default constant cosine plateau random@16 --suite quick --split test --jobs 20 --seeds 1 --no-controls \
		--out $(DEMO)/compare

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p rl_tuner
	$(BIN)/mypy examples
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto -m "not slow" --cov --cov-report=term --cov-fail-under=90
	$(BIN)/python -m pytest -n auto -m slow

# The policies that come along, each learned again by one command; `make -j2 reproduce-policies` takes somewhat more
# than an hour on two cores, `make reproduce-q-table` is one of them.
LEARN_default := --agent grpo --steps 300000
# Of several seeds the best on the validation split: see benchmarks/README.md.
SEED_default := 3
LEARN_lr-only := --agent grpo --steps 100000 --hyperparameters lr
# To begin again it would need validation data.
LEARN_no-validation := --agent grpo --steps 100000 --without validation,best --no-restarts-at-work
LEARN_q-table := --agent q-learning --steps 40000 --num-envs 128 --group-size 16 --reward best_improvement \
	--averaging-at-work
LEARN_sarsa := --agent sarsa --steps 40000 --num-envs 128 --group-size 16 --reward best_improvement \
	--averaging-at-work
REPRODUCED := runs/policies-$(shell date +%Y%m%d-%H%M%S)
REPRODUCE := reproduce-default reproduce-lr-only reproduce-no-validation reproduce-q-table reproduce-sarsa
.PHONY: reproduce-policies $(REPRODUCE)

reproduce-policies: $(REPRODUCE)

$(REPRODUCE): reproduce-%: $(STAMP)
	$(BIN)/rl-tuner train --suite standard --seed $(or $(SEED_$*),0) --eval-jobs 60 $(LEARN_$*) --out $(REPRODUCED)/$*
	cp $(REPRODUCED)/$*/policy.safetensors rl_tuner/policies/$*.safetensors

# The weights that the fine-tuning family starts from; about a quarter of a minute.
base-weights: $(STAMP)
	$(BIN)/python -m rl_tuner.base_weights

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
