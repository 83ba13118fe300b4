/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Read by bindgen for bindings_generated.rs: exported interfaces that are not in the kernel crate's
 * own bindings, and the functions of shim.c and trace.c. The allow-list stands in Kbuild.
 */
#include <linux/blk-mq.h>
#include <linux/crc32.h>
#include <linux/device-mapper.h>
#include <linux/fs.h>
#include <linux/lz4.h>
#include <linux/zstd.h>

#include "shim.h"
#include "trace.h"

/* Macros with casts are invisible to bindgen; a constant is not. */
const fmode_t VBD_FMODE_READ = FMODE_READ;
const blk_mode_t VBD_BLK_OPEN_READ = BLK_OPEN_READ;
const blk_mode_t VBD_BLK_OPEN_WRITE = BLK_OPEN_WRITE;
const unsigned int VBD_FEAT_POLL = (__force unsigned int)BLK_FEAT_POLL;
const unsigned int VBD_MQ_F_NO_SCHED_BY_DEFAULT = BLK_MQ_F_NO_SCHED_BY_DEFAULT;
