# Everything runs on the Node of the lock file, whatever the machine has; scripts install what they need beyond that.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
NODE := node_modules/.bin/node
SCENARIO :=
PAIRS := 5

.PHONY: help demo test lint build image bench cluster-up cluster-down clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

node_modules/.installed: package.json package-lock.json operator/package.json puller/package.json
	# Not "npm ci": it refuses a lock file without the entries of linter binaries for other platforms.
	# Not its warnings: it speaks of the machine's Node, which is not used, before the one of the lock file is there.
	npm install --no-fund --no-audit --loglevel=error
	@touch $@

demo: node_modules/.installed ## Run one Model end to end on a real cluster, registry and llama.cpp
	$(NODE) test/demo/main.ts

test: node_modules/.installed ## Format, lint, types, drift and all suites; ends with "N passed, N failed"
	$(NODE) test/run-tests.ts

lint: node_modules/.installed ## Format, lint and types only
	npm run --silent format
	npm run --silent lint
	npm run --silent typecheck

build: node_modules/.installed ## Compile to build/dist
	npm run --silent build

image: node_modules/.installed ## Build the operator's and the puller's images as OCI archives in build/images
	$(NODE) test/images/build.ts all --output build/images

bench: node_modules/.installed ## Measure beside peers: all of docs/benchmarks, or SCENARIO=T2,T5 with PAIRS=5
	$(NODE) test/bench/main.ts --scenario=$(SCENARIO) --pairs=$(PAIRS)

cluster-up: node_modules/.installed ## Leave a real cluster running and print the lines that set PATH and KUBECONFIG
	$(NODE) test/cluster/main.ts up

cluster-down: node_modules/.installed ## Remove that cluster: processes, mounts, interfaces, files
	$(NODE) test/cluster/main.ts down

clean: ## Remove what was built in the checkout
	rm -rf build node_modules
