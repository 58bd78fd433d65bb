# The two commands of a fresh machine are `make demo` and `make test`; both run the set-up first and say what it installs.
SHELL := /bin/bash
NODE := node_modules/.bin/node
# rustup looks for its toolchains below HOME; with another HOME they still stand beside its cargo.
ifndef RUSTUP_HOME
RUSTUP_HOME := $(shell d=$$(command -v cargo) && d=$$(dirname "$$(dirname "$$(dirname "$$d")")")/.rustup && [ -d "$$d" ] && echo "$$d")
ifneq ($(RUSTUP_HOME),)
export RUSTUP_HOME
endif
endif
.PHONY: help setup build native bundle guest tools demo test test-kvm fuzz bench check clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing (Debian packages, npm packages, tools) and build
	@scripts/setup.sh

build: native bundle guest ## Build launcher, agent, program bundle and guest into out/

native: ## Build the Rust programs
	@scripts/build-native.sh

bundle: ## Bundle the TypeScript programs
	@$(NODE) scripts/bundle.ts

tools: ## Get the vsock device's back-end
	@scripts/tools/vhost-device-vsock.sh

guest: native ## Build the guest's kernel and initramfs
	@scripts/guest/build.sh

demo: setup ## Compile a real project in a microVM, then again from the cache
	@$(NODE) scripts/demo.ts

test: setup ## Run every check and test
	@$(NODE) scripts/test.ts

test-kvm: setup ## Run the tests of VMs under KVM, in an emulated machine that has it
	@$(NODE) scripts/test.ts lab "kvm lab" firecracker

# Each seed is one number for all random choices of a run; the one of a failure makes it again: make fuzz HPCC_TEST_SEED=N
fuzz: setup ## Compare 20,000 random steps without an image, 2,000 with one and ten minutes of chaos with plain compiles; 300 rows of real builds made again; 2,000 damaged log folders; a million inputs of images
	@seed=$${HPCC_TEST_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; echo "HPCC_TEST_SEED=$$seed"; export HPCC_TEST_SEED=$$seed; failed=0; \
	HPCC_TEST_STEPS=20000 $(NODE) --test --test-timeout=28800000 test/e2e/local-steps.test.ts || failed=1; \
	HPCC_TEST_STEPS=2000 $(NODE) --test --test-timeout=28800000 test/e2e/random-steps.test.ts || failed=1; \
	HPCC_TEST_REPRODUCED_BUILDS=300 $(NODE) --test --test-timeout=28800000 test/e2e/reproduce-builds.test.ts || failed=1; \
	HPCC_TEST_FOLDERS=2000 $(NODE) --test --test-timeout=28800000 src/audit/hostile-folders.test.ts || failed=1; \
	HPCC_TEST_INPUTS=1000000 $(NODE) --test --test-timeout=28800000 test/fuzz/images.test.ts || failed=1; \
	HPCC_TEST_CHAOS_SECONDS=600 $(NODE) --test --test-timeout=1800000 test/e2e/local-chaos.test.ts || failed=1; exit $$failed

bench: setup ## Time local use against the newest ccache, sccache and zccache
	@$(NODE) bench/local.ts

check: ## Format, types, lint, layers, dead code, drift
	@$(NODE) scripts/check.ts

clean: ## Remove what was built
	rm -rf out native/target
