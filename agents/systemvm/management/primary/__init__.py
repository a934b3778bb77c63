# SPDX-License-Identifier: Apache-2.0
"""Primary storage: system VM images, templates that are copied once, and the linked clones of machines."""
