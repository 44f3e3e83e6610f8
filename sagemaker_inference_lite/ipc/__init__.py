# SPDX-License-Identifier: Apache-2.0
"""What the front end, the zygote and the workers tell each other, byte by byte."""
