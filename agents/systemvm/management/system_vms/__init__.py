# SPDX-License-Identifier: Apache-2.0
"""The daemon's own VMs: one SSVM and one CPVM a zone, kept running whatever happens to them."""
