# SPDX-License-Identifier: Apache-2.0
# The appliances' images. packer/build.py decides by content what must be built again, and prints what it does.
# OFFLINE=1 makes no request, LOCKED=1 rejects what is not locked, CACHE=DIR selects another cache, ROLES=cpvm builds
# one role, and ARCH=arm64 the other architecture. packer/mirror.py lists the variables for mirrors, proxies and
# certificate authorities.

ROLES ?=
ARCH ?= amd64
FETCH = $(if $(OFFLINE),,$(PYTHON) packer/fetch.py fetch --arch $(ARCH))
# The build never has a route, so that only the cache's content can get into an image.
BUILD_IMAGES = unshare --net -- $(PYTHON) packer/build.py

.PHONY: images exports base fetch lock-debs may-unshare
images: $(VENV)/stamp may-unshare ## build the images in build/images, with kernels, checksums and bills of materials
	@$(if $(FETCH),$(FETCH) --for-images)
	@$(BUILD_IMAGES) images --arch $(ARCH) $(ROLES)

exports: images ## export the images as VHD (XenServer) and OVA (VMware, VirtualBox)
	@$(BUILD_IMAGES) exports --arch $(ARCH) $(ROLES)

base: $(VENV)/stamp may-unshare ## build only the root file systems
	@$(FETCH)
	@$(BUILD_IMAGES) base --arch $(ARCH) $(ROLES)

fetch: $(VENV)/stamp ## download every locked input into build/cache, for `make images OFFLINE=1`
	@$(PYTHON) packer/fetch.py fetch --arch $(ARCH)

lock-debs: $(VENV)/stamp ## resolve the images' Debian packages and write packer/locks
	@$(PYTHON) packer/fetch.py lock --arch $(ARCH)

may-unshare:
	@[ "$$(id -u)" = 0 ] || { echo "error: building images needs root (chroot and a network namespace)" >&2; \
	    echo "hint:  run it with sudo" >&2; exit 1; }

.PHONY: cve-report
cve-report: $(VENV)/stamp ## list known vulnerabilities of the images' packages and wheels (CVE_DATA=DIR works offline)
	@$(PYTHON) packer/cve.py $(ROLES)

.PHONY: bench-boot
bench-boot: images ## measure power-on to agent Up, relative to a stock Debian's power-on to sshd
	@$(PYTHON) tests/benchmark/boot.py
