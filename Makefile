# make lab    the story: a UDP exchange that fails, why, and what fixes it
# make test   every test
# make check  formatting, lints, types, import direction
# make peers  the real servers and tools that some tests talk to
# make league the servers that Debian packages, tested: docs/league.md; takes some minutes
# make docs   the API reference, from the docstrings; the experiments' pages, from running them
# make bpf    the eBPF object, from its C source: takes clang, llvm and libbpf-dev
# Each sets up what it needs. `make lab ARGS="--list"` passes arguments on.

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= $(shell expr 2 \* $$(nproc))  # tests mostly wait
RUST := Cargo.toml Cargo.lock pyproject.toml $(shell find crates -name '*.rs' -o -name Cargo.toml -o -name '*.bpf.o')

lab: build
	@$(BIN)/udpkit lab $(ARGS)

test: build
	cargo test --quiet --workspace --exclude udpkit-python  # the binding would need libpython; pytest covers it
	$(BIN)/pytest -n $(WORKERS) $(ARGS)

check: build
	cargo fmt --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest udpkit._native
	$(BIN)/lint-imports

bench: build
	$(BIN)/python bench/lab.py
	$(BIN)/python bench/sockets
	$(BIN)/python bench/probe
	$(BIN)/python bench/capture
	$(BIN)/python bench/text.py
	$(BIN)/python bench/check.py
	$(BIN)/python bench/watch
	$(BIN)/python bench/fix

# Which servers answer from the address that was asked.
league: build peers
	@tools/system-packages packages-league.txt
	$(BIN)/python tools/league.py > docs/league.md.new
	mv docs/league.md.new docs/league.md

docs: build
	$(BIN)/python tools/api_reference.py > docs/sockets-api.md.new
	mv docs/sockets-api.md.new docs/sockets-api.md
	$(BIN)/udpkit lab --all --pages docs/experiments

# The object is committed: whoever builds udpkit needs no clang. -g makes the types that maps are declared with.
BPF := crates/cgroup/bpf/source.bpf
bpf:
	clang -target bpf -mcpu=v2 -O2 -g -Wall -Wextra -Werror -I/usr/include/$$(uname -m)-linux-gnu \
	    -fdebug-prefix-map=$(CURDIR)=. -c $(BPF).c -o $(BPF).o
	llvm-strip -g $(BPF).o
	cd $(dir $(BPF)) && sha256sum $(notdir $(BPF)).c $(notdir $(BPF)).o >$(notdir $(BPF)).sha256

build: packages .venv/.native-built

packages:
	@tools/system-packages

# The real servers and tools that tests and benches talk to.
peers:
	@tools/system-packages packages-peers.txt

.venv/.packages-installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "udpkit: Python 3.10 or later is needed: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/.native-built: .venv/.packages-installed $(RUST)
	@tools/rust
	PATH="$(CURDIR)/$(BIN):$$PATH" pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation --editable .
	@touch $@

# New versions of what the project depends on, with their hashes.
lock:
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --upgrade \
	    --no-header --group dev --output-file requirements.lock pyproject.toml
	cargo update

clean:
	rm -rf .venv target src/udpkit/_native*.so

.PHONY: lab test check bench docs league bpf build packages peers lock clean
