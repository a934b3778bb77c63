# SPDX-License-Identifier: Apache-2.0
"""The commands, by what they are about: each module declares its part of the table."""
