# SPDX-License-Identifier: Apache-2.0
"""A whole cloud on one machine, in its own network namespaces, for `make run` and the system tests."""
