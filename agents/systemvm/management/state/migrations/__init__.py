# SPDX-License-Identifier: Apache-2.0
"""Alembic's folder: `versions/` holds one module per change of the schema."""
