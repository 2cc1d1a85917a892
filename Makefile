# Every target works by itself on a fresh checkout: requirements/bootstrap.sh finds a Python of 3.12 or newer, makes
# .venv and installs what is pinned in requirements/. A second run installs nothing and needs no network.

BOOTSTRAP = @sh requirements/bootstrap.sh
PY = .venv/bin/python
ARGS =
COSMOS = @$(PY) -m tests.cosmos.server

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-cosmos lint bench soak lock clean

help: ## show this list
	@awk -F ': ## ' '/^[a-z-]+: ## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'make test ARGS="-k name"             hands ARGS on (demo, test, test-cosmos, bench, soak, lock)'
	@echo 'make test PYTHON=/path/to/python3    uses this interpreter (3.12 or newer)'

demo: ## run main.py, the first example of the README
	$(BOOTSTRAP)
	@$(PY) main.py $(ARGS)

test: ## run the test suite
	$(BOOTSTRAP) test
	$(COSMOS)
	@$(PY) -m tests $(ARGS)

test-cosmos: ## run the tests of the Cosmos DB backend only
	$(BOOTSTRAP) test
	$(COSMOS)
	@STORES=cosmos $(PY) -m pytest tests/cosmos tests/primitives $(ARGS)

lint: ## check format, style, types, layers and pins
	$(BOOTSTRAP) test lint
	@failed=0; \
	check() { \
		name=$$1; shift; \
		if output=$$("$$@" 2>&1); then echo "ok      $$name"; \
		else failed=1; echo "FAILED  $$name"; printf '%s\n' "$$output" | sed 's/^/        /'; fi; \
	}; \
	check black .venv/bin/black --check --diff .; \
	check ruff .venv/bin/ruff check .; \
	check mypy .venv/bin/mypy py_orchestrate $(wildcard main.py examples/*.py tests/typing/*.py); \
	check import-linter .venv/bin/lint-imports; \
	check pins $(MAKE) --no-print-directory check-pins; \
	exit $$failed

# The lock files must work with any index: no file names a host, a path or an index.
.PHONY: check-pins
check-pins:
	@! grep -rnE '(https?|file)://' Makefile requirements tests/cosmos/server/package*.json
	@! grep -n '"resolved"' tests/cosmos/server/package-lock.json
	@! grep -nE '^-' requirements/*.txt
	@for name in requirements/*.in; do test -f "$${name%.in}.txt" || { echo "no $${name%.in}.txt: run make lock"; exit 1; }; done

bench: ## run the benchmarks, and write bench/
	$(BOOTSTRAP) test bench
	@$(PY) -m tests.bench $(ARGS)

soak: ## run the long endurance test
	$(BOOTSTRAP) test
	@$(PY) -m tests.soak $(ARGS)
	@$(PY) -m tests.sleepers
	@$(PY) -m tests.steady
	@KILLS=every $(PY) -m pytest tests/crash -k kills

# Keeps the pinned versions that still fit; ARGS=--upgrade takes the newest. The order matters: test.in is held to
# build.txt, and lint.in and bench.in to both, for all of them are installed into one environment. The libraries that
# the benchmarks compare with are not: each has an environment of its own, and dura needs Python 3.13.
lock: ## compile requirements/*.in to *.txt, with hashes
	$(BOOTSTRAP) lock
	@for name in build test lint bench lock bench-py-orchestrate bench-dbos bench-dura bench-kairo; do \
		echo "Compiling requirements/$$name.in"; \
		case $$name in bench-dura) version=3.13 ;; *) version=3.12 ;; esac; \
		$(PY) -m uv pip compile --quiet --universal --python-version $$version --python $(PY) --no-python-downloads \
			--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS) \
			--output-file requirements/$$name.txt requirements/$$name.in >/dev/null || exit 1; \
	done
	@$(MAKE) --no-print-directory check-pins

clean: ## remove .venv, caches and build output
	@rm -rf .venv .bench .cosmos-server .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
