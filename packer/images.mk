# SPDX-License-Identifier: Apache-2.0
# The appliances' images. packer/build.py decides by content what must be built again, and says what it does.

.PHONY: images base
images: $(VENV)/stamp ## build/images: ssvm.qcow2, cpvm.qcow2, kernels, sums and bills of materials
	@$(PYTHON) packer/build.py images

base: $(VENV)/stamp ## the root file systems alone
	@$(PYTHON) packer/build.py base

.PHONY: bench-boot
bench-boot: images ## power-on to agent Up, against a stock Debian's power-on to sshd
	@$(PYTHON) tests/benchmark/boot.py
