# SPDX-License-Identifier: Apache-2.0
"""From the environment to a running server, and what is done for that while an image is built."""
