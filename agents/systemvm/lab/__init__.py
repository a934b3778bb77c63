# SPDX-License-Identifier: Apache-2.0
"""A whole cloud on one machine, in network namespaces of its own: for `make run` and the system tests."""
