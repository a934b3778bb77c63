# SPDX-License-Identifier: Apache-2.0
"""How much accounts and domains can have: the limits, what counts for them, and the check of a new object."""
