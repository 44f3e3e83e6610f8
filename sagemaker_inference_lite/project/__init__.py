# SPDX-License-Identifier: Apache-2.0
"""Container projects that work as they lie there, made of templates."""
