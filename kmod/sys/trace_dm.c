// SPDX-License-Identifier: GPL-2.0
/* trace.c once more, for vbd_dm.ko: in a system of its own, since both modules may be loaded. */
#define VBD_TRACE_DM
#include "trace.c"
