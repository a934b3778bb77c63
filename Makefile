# SPDX-License-Identifier: Apache-2.0
# `make run` starts a cloud, `make check` checks a change, `make test` tests everything; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
# Tests start hundreds of Python processes; without files of byte code, each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

VENV   := .venv
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest
# Any Python from 3.11 on makes the environment: `make check BASE_PYTHON=python3.13`.
BASE_PYTHON ?= python3
# Unit and contract tests share nothing, so each core runs its own part of them.
JOBS   ?= $(shell nproc)
PYTEST_PARALLEL := $(PYTEST) -n $(JOBS) --dist worksteal
# Integration tests mostly wait for other programs. Each process names its namespaces by its own id.
PYTEST_WAITING  := $(PYTEST) -n $$(( $(JOBS) + 1 )) --dist worksteal --durations=12
# Tests of a booted cloud and a browser are blocking code: Playwright refuses to run beside a reactor.
PYTEST_BLOCKING := $(PYTEST) -p no:twisted -o addopts="-ra --strict-markers -p no:cacheprovider --import-mode=importlib --durations=12"
ROOT   ?= build/run

include packer/images.mk

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- setting up -------------------------------------------------------------------------------------------
# The packages come first, also with `make -j`: one of them makes virtual environments.
.NOTPARALLEL:

.PHONY: setup
setup: debian-packages $(VENV)/stamp ## install what running and testing need: Debian packages, a locked Python environment

# The check is cheap when nothing is missing, so it runs every time instead of trusting a time stamp.
.PHONY: debian-packages
debian-packages:
	@packer/host-setup.sh

# `make check` needs only this: no root, and of Debian only make, git and python3-venv.
$(VENV)/stamp: agents/locks/host.txt pyproject.toml
	@command -v $(BASE_PYTHON) >/dev/null || { echo "python: there is no $(BASE_PYTHON): install it (on Debian python3-venv), or run make setup as root, which does" >&2; exit 1; }
	@echo "python: making $(VENV) from agents/locks/host.txt (about a minute)"
	@rm -rf $(VENV) && $(BASE_PYTHON) -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r agents/locks/host.txt
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# CloudStack clients as their users install them. Ansible's package has a hundred collections, of which one is used.
CLIENTS := build/clients
ONE_COLLECTION := import glob, sys, zipfile; \
    [wheel] = map(zipfile.ZipFile, glob.glob(sys.argv[1] + "/*.whl")); \
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith(sys.argv[3])])
$(CLIENTS)/stamp: agents/locks/clients.txt
	@echo "clients: making $(CLIENTS) from agents/locks/clients.txt (about half a minute)"
	@rm -rf $(CLIENTS) && $(BASE_PYTHON) -m venv $(CLIENTS)
	@sed '/^ansible==/,/# via/d' $< > $(CLIENTS)/clients.txt
	@sed -n '/^ansible==/,/# via/p' $< > $(CLIENTS)/collections.txt
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(CLIENTS)/clients.txt
	@$(CLIENTS)/bin/python -m pip download --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps \
	    --dest $(CLIENTS)/wheels -r $(CLIENTS)/collections.txt
	@$(CLIENTS)/bin/python -c '$(ONE_COLLECTION)' $(CLIENTS)/wheels "$$($(CLIENTS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	    ansible_collections/ngine_io/cloudstack/
	@rm -r $(CLIENTS)/wheels && touch $@

# Other parsers of disk images, each a program of its own: no dependency of theirs reaches the agents.
ORACLES := build/oracles
$(ORACLES)/stamp: agents/locks/oracles.txt
	@echo "oracles: making $(ORACLES) from agents/locks/oracles.txt"
	@rm -rf $(ORACLES) && $(BASE_PYTHON) -m venv $(ORACLES)
	@$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

# Prometheus's checker of alert rules, without the server: its package would start one at port 9090.
PROMTOOL := build/promtool
$(PROMTOOL)/stamp:
	@echo "promtool: taking it from Debian's package prometheus (20 MB)"
	@rm -rf $(PROMTOOL) && mkdir -p $(PROMTOOL)
	@cd $(PROMTOOL) && { apt-get download -q prometheus || { apt-get update && apt-get download -q prometheus; }; } > log 2>&1 \
	    || { tail -n 5 log >&2; echo "promtool: apt-get cannot download the package prometheus: see $(PROMTOOL)/log" >&2; exit 1; }
	@cd $(PROMTOOL) && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm prometheus_*.deb && touch stamp

# The console's peer in `make bench-console`.
WEBSOCKIFY := build/websockify
$(WEBSOCKIFY)/stamp: agents/locks/websockify.txt
	@echo "websockify: making $(WEBSOCKIFY) from agents/locks/websockify.txt"
	@rm -rf $(WEBSOCKIFY) && $(BASE_PYTHON) -m venv $(WEBSOCKIFY)
	@$(WEBSOCKIFY)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

# A scanner of TLS servers, which checks the console by Mozilla's profile. It needs an older cryptography than ours.
SSLYZE := build/sslyze
$(SSLYZE)/stamp: agents/locks/sslyze.txt
	@echo "sslyze: making $(SSLYZE) from agents/locks/sslyze.txt"
	@rm -rf $(SSLYZE) && $(BASE_PYTHON) -m venv $(SSLYZE)
	@sed -n '/^setuptools==/,/# via/p' $< > $(SSLYZE)/setuptools.txt
	@$(SSLYZE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(SSLYZE)/setuptools.txt
	@$(SSLYZE)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-binary sslyze \
	    --no-build-isolation -r $<
	@touch $@

.PHONY: lock
lock: ## resolve the dependencies again and write the locks (hashes, no addresses)
	@$(PYTHON) -m uv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv
	@$(PYTHON) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --extra host --extra dev pyproject.toml -o agents/locks/host.txt
	@$(PYTHON) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --extra host -c agents/locks/host.txt pyproject.toml -o agents/locks/daemon.txt
	@$(PYTHON) -m uv pip compile -q --upgrade --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
	    --only-binary :all: --generate-hashes --no-emit-index-url --no-header pyproject.toml -o agents/locks/guest.txt
	@$(PYTHON) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --group clients -o agents/locks/clients.txt
	@$(PYTHON) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --group oracles -o agents/locks/oracles.txt
	@$(PYTHON) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --group fuzz -o agents/locks/fuzz.txt
	@$(PYTHON) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --group websockify -o agents/locks/websockify.txt
	@$(PYTHON) -m uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --group sslyze -o agents/locks/sslyze.txt
	@for arch in amd64 arm64; do $(MAKE) --no-print-directory lock-debs ARCH=$$arch; done

.PHONY: messages
messages: ## write docs/reference/messages.md from the source
	@python3 docs/generate_messages.py

.PHONY: api-coverage
api-coverage: $(VENV)/stamp ## write docs/reference/api-coverage.md from the table of commands
	@$(PYTHON) docs/generate_api_coverage.py

.PHONY: screenshots
screenshots: $(VENV)/stamp ## take the pictures of the page in docs/screenshots, in Chromium
	@$(PYTHON) docs/take_screenshots.py

.PHONY: api-reference
api-reference: $(VENV)/stamp ## write docs/reference/api/: every command with its parameters, answer and callers
	@$(PYTHON) docs/generate_api_reference.py

.PHONY: keymaps
keymaps: $(VENV)/stamp ## write the key tables of the console's page, from QEMU's
	@PYTHONPATH=agents $(PYTHON) packer/page_keymaps.py

# ---- running ----------------------------------------------------------------------------------------------
# Runs before anything is installed. A cloud that exists already holds its own ports, and checks them itself.
.PHONY: preflight
preflight:
	@if command -v python3 >/dev/null; then \
	    python3 agents/systemvm/lab/preflight.py $(ROOT) $$([ -d $(ROOT)/lab ] || echo 8080 8443 8444); fi

.PHONY: run
run: preflight setup images ## set everything up, build the images, start a cloud to use in a browser (Ctrl-C ends it)
	@exec $(PYTHON) -m systemvm.lab up --root $(ROOT)

.PHONY: stop
stop: ## end a cloud, and clean up after one that was killed
	@if [ -x $(PYTHON) ]; then exec $(PYTHON) -m systemvm.lab down --root $(ROOT); fi

.PHONY: install
install: $(VENV)/stamp ## install the daemon, its helpers, the images and the units on this host (or below DESTDIR=DIR)
	@systemd/host/install.sh

.PHONY: uninstall
uninstall: ## remove what `make install` installed; configuration, database and disks stay
	@systemd/host/uninstall.sh

.PHONY: reset
reset: stop ## delete the cloud's database, templates and machines
	@if [ -x $(PYTHON) ]; then exec $(PYTHON) -m systemvm.lab reset --root $(ROOT); fi

# ---- proving ----------------------------------------------------------------------------------------------
.PHONY: check
check: $(VENV)/stamp ## lint, types, unit and contract tests: about four minutes, without root
	@$(PYTEST_PARALLEL) tests/lint tests/unit tests/contract tests/benchmark -q

# Debian's service of it begins with the next start of a host: only where these tests run.
.PHONY: openvswitch
openvswitch:
	@packer/host-setup.sh openvswitch-switch

.PHONY: test-integration
test-integration: setup openvswitch $(ORACLES)/stamp $(SSLYZE)/stamp $(CLIENTS)/stamp $(PROMTOOL)/stamp ## components against real peers, in namespaces
	@$(PYTEST_WAITING) tests/integration

.PHONY: test-image
test-image: setup images ## the content of the images
	@$(PYTEST_BLOCKING) tests/image

.PHONY: test-system
test-system: setup images ## downloads and consoles on booted machines, with a browser
	@$(PYTEST_BLOCKING) tests/image tests/system

# A stage of `make test`: its duration goes to build/stages.txt, which ends the output, also after a failure.
STAGES := build/stages.txt
define stage
@begun=$$(date +%s); code=0; $(2) || code=$$?; \
printf '%-18s %4d s\n' '$(1)' $$(( $$(date +%s) - begun )) >> $(STAGES); \
[ $$code = 0 ] || { echo "stages until the failure in $(1):"; cat $(STAGES); exit $$code; }
endef

.PHONY: test
test: ## everything, and how long each stage took
	@mkdir -p build; : > $(STAGES)
	$(call stage,setup,$(MAKE) --no-print-directory setup openvswitch $(ORACLES)/stamp $(SSLYZE)/stamp $(CLIENTS)/stamp $(PROMTOOL)/stamp)
	$(call stage,check,DOWNLOAD_SCHEDULES=300 ZONE_SEQUENCES=200 API_FUZZ_EACH=1 HYPOTHESIS_EXAMPLES=100 $(MAKE) --no-print-directory check)
	$(call stage,images,$(MAKE) --no-print-directory images)
	$(call stage,integration,$(PYTEST_WAITING) tests/integration)
	$(call stage,image and system,$(PYTEST_BLOCKING) tests/image tests/system)
	@echo "stages:"; cat $(STAGES)

.PHONY: test-s3
test-s3: setup ## image stores on a real S3 server, OpenStack Swift, whose packages this installs
	@packer/host-setup.sh swift-proxy swift-account swift-container swift-object
	@$(PYTEST) tests/s3

.PHONY: test-matrix
test-matrix: setup openvswitch images ## every way to boot, double and offline builds, provoked failures (up to 80 minutes)
	@$(PYTEST_BLOCKING) tests/matrix

.PHONY: soak-control
soak-control: setup images ## 200 random kills of agent, worker, daemon, VM and NFS server
	@$(PYTHON) tests/benchmark/soak_control.py

.PHONY: soak-busy
soak-busy: setup images ## an hour of downloads and kills on system VMs with a fifth of a core each
	@$(PYTHON) tests/benchmark/soak_busy.py

.PHONY: soak-download
soak-download: $(VENV)/stamp ## 10,000 random schedules of faults of a source and a store (about five minutes)
	@DOWNLOAD_SCHEDULES=10000 $(PYTEST) --timeout=0 tests/unit/ssvm/mover/test_fault_schedule.py

.PHONY: bench-recovery
bench-recovery: setup images ## time until all is Up again after agent, daemon or machine was killed
	@$(PYTHON) tests/benchmark/recovery.py

.PHONY: bench-helper
bench-helper: setup ## CPU of a call of the store's helper, compared with starting an interpreter for it
	@$(PYTHON) tests/benchmark/helper_call.py

.PHONY: bench-idle
bench-idle: setup images ## CPU of idle system VMs and daemon, and of one small download
	@$(PYTHON) tests/benchmark/idle.py

.PHONY: bench-download-pass
bench-download-pass: $(VENV)/stamp ## queries and milliseconds of an idle pass over 100, 1,000 and 10,000 Ready templates
	@$(PYTHON) tests/benchmark/download_pass.py

.PHONY: bench-extract
bench-extract: setup ## a link to an image of 2 GiB without TLS, compared with nginx and sendfile
	@$(PYTHON) tests/benchmark/extract.py

.PHONY: bench-console
bench-console: setup images $(WEBSOCKIFY)/stamp ## consoles through the CPVM's agent, compared with nginx and websockify
	@packer/host-setup.sh gcc libc6-dev libssl-dev libnginx-mod-stream
	@$(PYTHON) tests/benchmark/console.py

.PHONY: bench-console-appliance
bench-console-appliance: setup images ## how many consoles a booted CPVM carries, with its CPU and memory
	@$(PYTHON) tests/benchmark/console_appliance.py

.PHONY: bench-download
bench-download: setup ## URLs to Ready templates, compared with curl, aria2, openssl, igzip and qemu-img
	@packer/host-setup.sh aria2 isal
	@$(PYTHON) tests/benchmark/download.py

.PHONY: bench-footprint
bench-footprint: setup ## memory of movers and of 32 downloads at once, and how late agent and fetch are beside 8
	@$(PYTHON) tests/benchmark/download_footprint.py

.PHONY: bench-upload
bench-upload: setup ## uploads by tus and by the signed form, compared with a download of the same file
	@$(PYTHON) tests/benchmark/upload.py

.PHONY: bench-waiting
bench-waiting: setup ## CPU of the daemon and an idle SSVM while 10,000 templates wait
	@$(PYTHON) tests/benchmark/waiting.py

.PHONY: bench-api
bench-api: setup ## signed API requests beside 100,000 templates, 10,000 VMs and 1,000,000 events (needs wrk, installs it)
	@packer/host-setup.sh wrk
	@$(PYTHON) tests/benchmark/api.py

.PHONY: bench-clone
bench-clone: setup ## a machine's disk as a linked clone of 2 GiB, compared with a copy by qemu-img
	@$(PYTHON) tests/benchmark/clone.py

.PHONY: bench-snapshot
bench-snapshot: setup ## snapshots of a running machine and their restore, compared with a copy by qemu-img
	@$(PYTHON) tests/benchmark/snapshot.py

.PHONY: soak-zone
soak-zone: setup ## 10,000 random sequences of calls, kills and faults, and 100 chains of snapshots
	@ZONE_SEQUENCES=10000 $(PYTEST_PARALLEL) --timeout=0 tests/unit/management/zone_sequences
	@SNAPSHOT_CHAINS=100 $(PYTEST) --timeout=0 tests/integration/test_volume_snapshots.py -k chains

.PHONY: soak-memory
soak-memory: setup ## memory of agent and fetch over 10,000 downloads (about ten minutes)
	@$(PYTHON) tests/benchmark/soak_memory.py

.PHONY: bench-control
bench-control: setup ## one daemon with 1,000 agents on real sockets; a call compared with the same call over HTTPS
	@$(PYTHON) tests/benchmark/control.py

.PHONY: fuzz-rpc
fuzz-rpc: $(VENV)/stamp ## feed 100,000 invalid frames and conversations to the parsers of the control channel
	@RPC_FUZZ_EXAMPLES=100000 $(PYTEST) tests/unit/rpc/core/test_peer_robustness.py tests/unit/rpc/core/test_frame.py

FUZZER := build/fuzz/packages
$(FUZZER)/stamp: agents/locks/fuzz.txt
	@rm -rf $(FUZZER) && $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes \
	    --only-binary :all: --target $(FUZZER) -r $<
	@touch $@

.PHONY: fuzz
fuzz: $(VENV)/stamp $(FUZZER)/stamp ## feed every parser of strangers' bytes, and the API, with a fuzzer, a minute each (SECONDS_EACH=60)
	@PYTHONPATH=$(FUZZER) $(PYTHON) tests/fuzz/run.py --seconds $(or $(SECONDS_EACH),60)
	@API_FUZZ_SECONDS=$(or $(SECONDS_EACH),60) $(PYTEST) -o timeout=0 tests/unit/management/api/test_fuzzed_commands.py

.PHONY: clean
clean: stop ## remove everything that was built
	@rm -rf build $(VENV)
