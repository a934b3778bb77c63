# SPDX-License-Identifier: Apache-2.0
"""Accounts and users: made, changed, disabled and deleted, with all that hangs on them."""
