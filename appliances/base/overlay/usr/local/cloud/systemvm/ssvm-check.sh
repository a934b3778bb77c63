#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# CloudStack's operators and tests run the checks of a system VM at this path.
exec /opt/systemvm/current/bin/systemvm-check "$@"
