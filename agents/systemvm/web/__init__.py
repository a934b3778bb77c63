# SPDX-License-Identifier: Apache-2.0
"""What public listeners share: endpoints, X-Forwarded-For, certificates, and a TLS port."""
