/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints, of which each module has its own: vbd.ko in system "vbd", vbd_dm.ko in "vbd_dm".
 * docs/tracing.md tells what they say. Read several times, by <trace/define_trace.h>.
 */
#undef TRACE_SYSTEM
#ifdef VBD_TRACE_DM
#define TRACE_SYSTEM vbd_dm
#else
#define TRACE_SYSTEM vbd
#endif

#if !defined(VBD_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VBD_TRACE_H

#include <linux/tracepoint.h>

/* A request or bio has been served: bytes of the disk, and the time since it came. */
TRACE_EVENT(vbd_request,
	TP_PROTO(const char *device, u64 offset, u64 bytes, bool queued, int error, u64 ns),
	TP_ARGS(device, offset, bytes, queued, error, ns),
	TP_STRUCT__entry(
		__string(device, device)
		__field(u64, offset)
		__field(u64, bytes)
		__field(u64, ns)
		__field(int, error)
		__field(bool, queued)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->offset = offset;
		__entry->bytes = bytes;
		__entry->ns = ns;
		__entry->error = error;
		__entry->queued = queued;
	),
	TP_printk("device=%s offset=%llu bytes=%llu queued=%d error=%d ns=%llu",
		  __get_str(device), __entry->offset, __entry->bytes, __entry->queued,
		  __entry->error, __entry->ns)
);

DECLARE_EVENT_CLASS(vbd_layer,
	TP_PROTO(const char *device, unsigned int layer, u64 offset, u64 bytes, int error, u64 ns),
	TP_ARGS(device, layer, offset, bytes, error, ns),
	TP_STRUCT__entry(
		__string(device, device)
		__field(u64, offset)
		__field(u64, bytes)
		__field(u64, ns)
		__field(unsigned int, layer)
		__field(int, error)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->offset = offset;
		__entry->bytes = bytes;
		__entry->ns = ns;
		__entry->layer = layer;
		__entry->error = error;
	),
	TP_printk("device=%s layer=%u offset=%llu bytes=%llu error=%d ns=%llu",
		  __get_str(device), __entry->layer, __entry->offset, __entry->bytes,
		  __entry->error, __entry->ns)
);

/* A layer's file has been read: bytes of the file, and the time that it took. */
DEFINE_EVENT(vbd_layer, vbd_fetch,
	TP_PROTO(const char *device, unsigned int layer, u64 offset, u64 bytes, int error, u64 ns),
	TP_ARGS(device, layer, offset, bytes, error, ns));

/* A block has been checked and decoded: its place in the file, its bytes decoded, and the time. */
DEFINE_EVENT(vbd_layer, vbd_decode,
	TP_PROTO(const char *device, unsigned int layer, u64 offset, u64 bytes, int error, u64 ns),
	TP_ARGS(device, layer, offset, bytes, error, ns));

/* A read has failed: bytes of the disk, where in which layer (-1: in none), and why. */
TRACE_EVENT(vbd_error,
	TP_PROTO(const char *device, u64 start, u64 bytes, int layer, u64 offset, int error,
		 const char *reason, size_t reason_len),
	TP_ARGS(device, start, bytes, layer, offset, error, reason, reason_len),
	TP_STRUCT__entry(
		__string(device, device)
		__field(u64, start)
		__field(u64, bytes)
		__field(u64, offset)
		__field(int, layer)
		__field(int, error)
		__string_len(reason, reason, reason_len)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->start = start;
		__entry->bytes = bytes;
		__entry->offset = offset;
		__entry->layer = layer;
		__entry->error = error;
		__assign_str(reason);
	),
	TP_printk("device=%s start=%llu bytes=%llu layer=%d offset=%llu error=%d reason=\"%s\"",
		  __get_str(device), __entry->start, __entry->bytes, __entry->layer,
		  __entry->offset, __entry->error, __get_str(reason))
);

#endif

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE vbd_trace
#include <trace/define_trace.h>
