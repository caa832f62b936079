CARGO ?= cargo

# What CI runs on every change, without the other platforms and languages.
check: fmt clippy test doc length

fmt:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

# The README's test command.
test:
	$(CARGO) test --locked

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

# No file grows past what one can hold in mind: 500 lines, unless its top says why.
length:
	sh scripts/length.sh

# Kernels of every table, then a model's speed, first token and memory; on a quiet machine (docs/bench.md).
MODEL ?= $(shell cat examples/models/default.txt)
bench:
	$(CARGO) bench --bench kernels
	$(CARGO) run --release --example bench -- -m $(MODEL) -p 128,512 -n 128 -t 1,2 --trunk 128 \
	    --first 512 --memory 512 --save target/bench.json
	$(CARGO) run --release --example bench -- --plot target/plots target/bench.json

# Writes include/tern.h anew; tests/header.rs holds it to the source.
header:
	TERN_WRITE_HEADER=1 $(CARGO) test --locked --test header

# C and Rust under the address sanitizer, and the C programs under valgrind.
asan:
	sh scripts/asan.sh

# aarch64 under emulation, at four CPU models.
arm64:
	sh scripts/arm64.sh

# Every language, installed and tested.
bindings:
	bash scripts/cpp.sh
	bash scripts/bindings.sh

# Windows, Apple and Android, as far as a Linux machine can: slow.
platforms:
	bash scripts/platforms.sh

# The archive that is shipped.
dist:
	bash scripts/dist.sh

# Long runs of damaged files, states, sessions, grammars and templates.
soak:
	TERN_SOAK=1 $(CARGO) test --release --locked --test malformed --test mutations

.PHONY: check fmt clippy test doc length bench header asan arm64 bindings platforms dist soak
