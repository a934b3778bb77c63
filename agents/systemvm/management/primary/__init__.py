# SPDX-License-Identifier: Apache-2.0
"""Primary storage: system VM images, templates copied once, and the linked clones that machines run on."""
