# SPDX-License-Identifier: Apache-2.0
"""Recording of consoles in the CPVM: what the filter passes, kept until the daemon has stored it."""
