# SPDX-License-Identifier: Apache-2.0
"""Where MMS's wire meets a handler: the zygote, which forks, and the workers, which answer."""
