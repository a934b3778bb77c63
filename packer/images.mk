# SPDX-License-Identifier: Apache-2.0
# The appliances' images. packer/build.py decides by content what must be built again, and says what it does.
# OFFLINE=1 asks no network for anything; LOCKED=1 refuses what is not locked; CACHE=DIR is another cache, and
# ROLES=cpvm builds one, ARCH=arm64 for the other architecture. packer/mirror.py says what chooses mirrors, proxies
# and certificate authorities.

ROLES ?=
ARCH ?= amd64
FETCH = $(if $(OFFLINE),,$(PYTHON) packer/fetch.py fetch --arch $(ARCH))
# The build itself has no route, with OFFLINE=1 or without: what is not in the cache cannot get into an image.
BUILD_IMAGES = unshare --net -- $(PYTHON) packer/build.py

.PHONY: images exports base fetch lock-debs may-unshare
images: $(VENV)/stamp may-unshare ## build/images: ssvm.qcow2, cpvm.qcow2, kernels, sums and bills of materials
	@$(if $(FETCH),$(FETCH) --for-images)
	@$(BUILD_IMAGES) images --arch $(ARCH) $(ROLES)

exports: images ## VHD (XenServer) and OVA (VMware, VirtualBox) beside the qcow2
	@$(BUILD_IMAGES) exports --arch $(ARCH) $(ROLES)

base: $(VENV)/stamp may-unshare ## the root file systems alone
	@$(FETCH)
	@$(BUILD_IMAGES) base --arch $(ARCH) $(ROLES)

fetch: $(VENV)/stamp ## fill build/cache with every locked input, for `make images OFFLINE=1`
	@$(PYTHON) packer/fetch.py fetch --arch $(ARCH)

lock-debs: $(VENV)/stamp ## resolve the images' Debian packages again and write packer/locks
	@$(PYTHON) packer/fetch.py lock --arch $(ARCH)

may-unshare:
	@[ "$$(id -u)" = 0 ] || { echo "error: building images needs root (chroot and a network namespace)" >&2; \
	    echo "hint:  run it with sudo" >&2; exit 1; }

.PHONY: cve-report
cve-report: $(VENV)/stamp ## known vulnerabilities of the images' packages and wheels (CVE_DATA=DIR without the Internet)
	@$(PYTHON) packer/cve.py $(ROLES)

.PHONY: bench-boot
bench-boot: images ## power-on to agent Up, against a stock Debian's power-on to sshd
	@$(PYTHON) tests/benchmark/boot.py
