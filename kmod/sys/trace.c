// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints themselves, and calls of them for Rust; trace.h says what each one is.
 */
#define CREATE_TRACE_POINTS
#include "vbd_trace.h"

#include "trace.h"

void vbd_trace_request(const char *device, u64 offset, u64 bytes, bool queued, int error, u64 ns)
{
	trace_vbd_request(device, offset, bytes, queued, error, ns);
}

void vbd_trace_fetch(const char *device, unsigned int layer, u64 offset, u64 bytes, int error,
		     u64 ns)
{
	trace_vbd_fetch(device, layer, offset, bytes, error, ns);
}

void vbd_trace_decode(const char *device, unsigned int layer, u64 offset, u64 bytes, int error,
		      u64 ns)
{
	trace_vbd_decode(device, layer, offset, bytes, error, ns);
}

void vbd_trace_error(const char *device, u64 start, u64 bytes, int layer, u64 offset, int error,
		     const char *reason, size_t reason_len)
{
	trace_vbd_error(device, start, bytes, layer, offset, error, reason, reason_len);
}
