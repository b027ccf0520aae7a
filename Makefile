# The commands people, README and CI use. Each sets up what it needs in ./.venv by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST_SOURCES := $(shell find rust -name '*.rs' -not -path '*/target/*') $(shell find rust -name Cargo.toml) Cargo.toml Cargo.lock

.PHONY: demo test nightly soak fuzz lint bench wheels clean

# The package, editable, with everything a developer needs; rebuilt when the Rust sources change.
READY := $(VENV)/.ready
$(READY): pyproject.toml $(RUST_SOURCES)
	@echo "Building in $(VENV): some minutes the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/smok-fast demo

test: $(READY)
	cargo test --quiet --package smok-core
	$(BIN)/python -m pytest

# Expressions against CPython's own eval, many times over.
nightly: $(READY)
	SMOK_FAST_EXAMPLES=200000 $(BIN)/python -m pytest tests/test_reparse_oracle.py

# The durable buffer: many times the kills, and of the model test many times the cases. About half an
# hour.
SOAK_KILLS ?= 5000
SOAK_TIMES ?= 200
soak: $(READY)
	SMOK_FAST_KILLS=$(SOAK_KILLS) $(BIN)/python -m pytest tests/test_buffer_kill.py
	SMOK_MODEL_TIMES=$(SOAK_TIMES) cargo test --quiet --package smok-core buffer

# Ten minutes for each fuzz target; needs cargo-fuzz. The committed inputs are where they start.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= reparse minijson orders ngtt
fuzz:
	for target in $(FUZZ_TARGETS); do \
		mkdir -p rust/fuzz/found/$$target rust/fuzz/corpus/$$target; \
		(cd rust && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir fuzz $$target fuzz/found/$$target fuzz/corpus/$$target \
			-- -max_len=4096 -max_total_time=$(FUZZ_SECONDS)) || exit 1; \
	done

lint: $(READY)
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest smok_fast._core

# The reference client in an environment of its own: its minijson builds with an old Cython only.
BENCH_READY := .bench-venv/.ready
$(BENCH_READY):
	$(PYTHON) -m venv .bench-venv
	.bench-venv/bin/python -m pip install --quiet --disable-pip-version-check 'cython<3' 'setuptools<81' wheel
	.bench-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation 'minijson==3.1.1'
	.bench-venv/bin/python -m pip install --quiet --disable-pip-version-check 'smok==0.21'
	touch $@

bench: $(READY) $(BENCH_READY)
	$(BIN)/python benches/run.py

wheels:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.7,<2'
	$(BIN)/maturin build --release --out dist

clean:
	rm -rf $(VENV) .bench-venv target dist
