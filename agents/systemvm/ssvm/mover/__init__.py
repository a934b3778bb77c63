# SPDX-License-Identifier: Apache-2.0
"""The mover, one process for each job: from a connected socket to a file that others opened."""
