// SPDX-License-Identifier: GPL-2.0
/* shim.c once more, for vbd_dm.ko: one object cannot be part of two modules. */
#include "shim.c"
