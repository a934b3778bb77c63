# SPDX-License-Identifier: Apache-2.0
"""What a zone consists of: rules for its parts, the import of zones' files, and what services see of it."""
