# SPDX-License-Identifier: GPL-2.0
# One entry point: every target is a short script under scripts/.
.DEFAULT_GOAL := help
.PHONY: help demo test fuzz check bench build try shell picture setup module tools deb clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: setup ## show the main job: age a guest under each policy, print the table (FULL=1: every cell)
	@scripts/demo

test: setup ## run every check in the machine (FULL=1: every cell; ONLY=NAME: some; DEBUG=1: on a kernel that looks for bugs)
	@FULL='$(FULL)' ONLY='$(ONLY)' DEBUG='$(DEBUG)' scripts/test

fuzz: setup ## fuzz the core until something breaks (SECONDS=N for each target, 600)
	@scripts/fuzz --seconds $(or $(SECONDS),600)

check: setup ## the quick gate: format, lints, unsafe audit, core tests, patches apply
	@scripts/check

bench: setup ## the core against its rivals: instructions, time ratios, memory (QUICK=1: not at 1 TiB)
	@scripts/bench $(if $(QUICK),--quick)

build: setup ## kernel, emulator, module and test programs, without running them
	@scripts/build >/dev/null

try: setup ## Linux guests at work, and a shell beside them: change the policy, see what it does
	@scripts/shell --guests

shell: setup ## an interactive shell in the machine (CPUS=N)
	@scripts/shell $(if $(CPUS),--cpus $(CPUS))

picture: setup ## draw the pictures of README.md anew: gvahintctl top in the machine, chart and table of the last make demo
	@scripts/picture

module: setup ## only gvahint.ko and gvahint_guest.ko
	@scripts/module

tools: setup ## gvahintctl as one static file, its manual pages and completions, in build/tools
	@scripts/tools

deb: setup ## Debian packages in build/deb (KERNEL=1: linux-image and modules, too: hours; FLAVOUR=cloud-amd64)
	@scripts/deb $(if $(KERNEL),--kernel $(FLAVOUR))

setup: ## install the packages that all this needs (as root)
	@scripts/setup

clean: ## remove build/ (the cache of kernel and emulator stays)
	@rm -rf build
