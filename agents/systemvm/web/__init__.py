# SPDX-License-Identifier: Apache-2.0
"""HTTP rules that the page and the console share: public endpoints and X-Forwarded-For."""
