# SPDX-License-Identifier: Apache-2.0
"""Accounts and users: create, change, disable and delete them and what belongs to them."""
