# SPDX-License-Identifier: Apache-2.0
"""Asynchronous jobs: what an API call started, its result, and what a restart of the daemon does to it."""
