# SPDX-License-Identifier: Apache-2.0
"""The database: tables, migrations, and one repository module per aggregate.

A repository is a module of functions whose first parameter is a connection. They run in a transaction on a
thread of the database and return frozen values, never live rows:

    template = await database.run(templates.by_uuid, uuid)

`Database.run` can write, `Database.read` cannot. No transaction spans a wait. All SQL is in this package.
"""
