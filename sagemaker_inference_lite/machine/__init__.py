# SPDX-License-Identifier: Apache-2.0
"""What the machine has, and how large the server is made for it."""
