# SPDX-License-Identifier: GPL-2.0
#
# Which series of kernels the modules are made for. This is the only place that says so: the Makefile
# includes it, and xtask takes from it which packages its kits have.

# The first and the last series for which the modules may be built.
KERNEL_FIRST := 7.2
KERNEL_LAST := 7.3
# The series of the kit, which every test runs on.
KERNEL_KIT := 7.2
# The series of the lane that shows early what will change (--next).
KERNEL_NEXT := 7.3
