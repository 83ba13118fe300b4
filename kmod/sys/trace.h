/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls of the module's tracepoints (vbd_trace.h), to be made where somebody listens: that is what the
 * key of a tracepoint says.
 */
#ifndef VBD_TRACE_CALLS_H
#define VBD_TRACE_CALLS_H

#include <linux/tracepoint-defs.h>
#include <linux/types.h>

DECLARE_TRACEPOINT(vbd_request);
DECLARE_TRACEPOINT(vbd_fetch);
DECLARE_TRACEPOINT(vbd_decode);
DECLARE_TRACEPOINT(vbd_error);

void vbd_trace_request(const char *device, u64 offset, u64 bytes, bool queued, int error, u64 ns);
void vbd_trace_fetch(const char *device, unsigned int layer, u64 offset, u64 bytes, int error,
		     u64 ns);
void vbd_trace_decode(const char *device, unsigned int layer, u64 offset, u64 bytes, int error,
		      u64 ns);
void vbd_trace_error(const char *device, u64 start, u64 bytes, int layer, u64 offset, int error,
		     const char *reason, size_t reason_len);

#endif
