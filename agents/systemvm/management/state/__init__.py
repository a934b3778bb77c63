# SPDX-License-Identifier: Apache-2.0
"""What the daemon remembers: tables, migrations, and one repository module per aggregate.

A repository is a module of functions whose first parameter is a connection. They run in a transaction on a
thread of the database, and what they return is a frozen value, never a live row:

    template = await database.run(templates.by_uuid, uuid)

`Database.run` may write, `Database.read` may not. No transaction spans a wait.
"""
