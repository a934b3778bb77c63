# SPDX-License-Identifier: Apache-2.0
"""Good and bad disk images of every format, made byte by byte: each bad one is right but for one thing."""
