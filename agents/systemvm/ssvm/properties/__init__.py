# SPDX-License-Identifier: Apache-2.0
"""template.properties, which describes a template on any kind of store, whoever has written it."""
