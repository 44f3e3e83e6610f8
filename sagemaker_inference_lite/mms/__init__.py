# SPDX-License-Identifier: Apache-2.0
"""Everything that this library knows of Multi Model Server (MMS), and nothing else does."""
