# SPDX-License-Identifier: Apache-2.0
"""Templates and ISOs: registered by users, downloaded by SSVMs, stored on image stores until deleted."""
