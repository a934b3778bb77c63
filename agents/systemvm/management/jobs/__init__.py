# SPDX-License-Identifier: Apache-2.0
"""Asynchronous jobs: what an API call started, what came of it, and what a daemon's restart means to it."""
