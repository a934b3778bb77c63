# SPDX-License-Identifier: Apache-2.0
"""Ways out of alerts: e-mail and a webhook."""
