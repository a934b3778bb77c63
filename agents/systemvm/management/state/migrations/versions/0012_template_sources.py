# SPDX-License-Identifier: Apache-2.0
"""Logins and certificates of sources, apart from templates: lists of templates never read them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "template_sources",
        *_numbered(),
        sa.Column("template_id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=True),
        sa.Column("sealed_password", sa.LargeBinary(), nullable=True),
        sa.Column("signature_url", sa.String(length=2048), nullable=True),
        sa.ForeignKeyConstraint(
            ["template_id"], ["templates.id"], name=op.f("fk_template_sources_template_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template_sources")),
        sa.UniqueConstraint("uuid", name=op.f("uq_template_sources_uuid")),
        sa.UniqueConstraint("template_id", name=op.f("uq_template_sources_template_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "source_certificates",
        *_numbered(),
        sa.Column("zone_id", sa.Integer(), nullable=False),
        sa.Column("template_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("hypervisor", sa.String(length=20), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["zone_id"], ["zones.id"], name=op.f("fk_source_certificates_zone_id")),
        sa.ForeignKeyConstraint(
            ["template_id"], ["templates.id"], name=op.f("fk_source_certificates_template_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_certificates")),
        sa.UniqueConstraint("uuid", name=op.f("uq_source_certificates_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_source_certificates_zone_id"), "source_certificates", ["zone_id"], unique=False)


def _numbered() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.DateTime(), nullable=True),
    ]


def downgrade() -> None:
    op.drop_table("source_certificates")
    op.drop_table("template_sources")
