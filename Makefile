# SPDX-License-Identifier: Apache-2.0
# Needs make and Python 3.9 or newer; everything else, Java too, is installed under .venv/.

PYTHON ?= python3
# Further arguments of pytest, of the demo: make test ARGS="-k settings"
ARGS ?=
# Versions that test-all leaves out: make test-all SKIP="3.9 3.10"
SKIP ?=

IN := $(PYTHON) tools/environments.py
TESTS := $(PYTHON) tools/run_tests.py
TYPED := sagemaker_inference_lite setup.py tools tests $(wildcard benchmarks/*.py container/*.py demo/*.py java/*.py)

.DEFAULT_GOAL := help
.PHONY: help venv demo serve test test-all test-frameworks test-container check format bench bench-quick bench-codecs bench-memory bench-first-answer clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## Make an environment to work in, with the working tree installed, and say where it is
	@$(IN) dev

demo: ## Serve a model on this machine and ask it for predictions
	@$(IN) demo python demo/demo.py $(ARGS)

serve: ## Serve the demo's model until interrupted
	@$(IN) demo python demo/demo.py --serve $(ARGS)

test: ## Test the built and installed wheel on PYTHON, with coverage
	@$(TESTS) $(ARGS)

test-all: ## The tests on every Python from 3.9 to 3.13 that is found, without coverage
	@$(TESTS) --all $(addprefix --skip=,$(SKIP)) $(ARGS)

test-frameworks: ## Serve models of scikit-learn, PyTorch, ONNX Runtime and AWS's toolkits
	@$(TESTS) --frameworks $(ARGS)

test-container: ## Build images and run them on a Docker engine that is started for it; as root, on Debian or Ubuntu
	@$(TESTS) --container $(ARGS)

check: ## Check style, format and types
	@$(IN) check ruff check --quiet .
	@$(IN) check ruff format --quiet --check .
	@$(IN) check mypy --no-error-summary $(TYPED)

format: ## Mend what check finds of style and format, as far as that can be done for you
	@$(IN) check ruff check --quiet --fix --exit-zero .
	@$(IN) check ruff format --quiet .

bench: ## Measure this library beside its peers, for about 45 minutes
	@$(PYTHON) -m benchmarks $(ARGS)

bench-quick: ## The same in three minutes: the main figures, beside sagemaker-inference alone
	@$(PYTHON) -m benchmarks --quick $(ARGS)

bench-codecs: ## Measure the codecs beside those of sagemaker-inference
	@$(PYTHON) benchmarks/codecs.py $(ARGS)

bench-memory: ## Measure a worker's private memory at each step of its birth, on each Python that is found
	@$(PYTHON) benchmarks/memory.py $(ARGS)

bench-first-answer: ## Measure the way from pip install to a first answer, beside LitServe, BentoML and MLServer
	@$(PYTHON) -m benchmarks.first_answer $(ARGS)

clean: ## Remove all that these targets have made
	rm -rf .venv build dist htmlcov .coverage .coverage.* *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
