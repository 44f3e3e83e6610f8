# SPDX-License-Identifier: Apache-2.0
"""People's code and models: found, imported, called, and what callers are told where it fails."""
