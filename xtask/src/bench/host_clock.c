// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * The processor time of User-Mode Linux, as its host counts it: the parameter "ns" reads as the
 * nanoseconds that two of the host's tasks have run, the thread which is the kernel's processor and
 * the process in which the program runs that reads. Time that the host gives to others is not in
 * it, and the kernel's own count is in steps of 10 ms. Threads that stand for hardware, and other
 * programs of the guest, are not in it either.
 */
#include <linux/mm_types.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/time64.h>

/* The number of clock_gettime() on x86-64, and the clock of a process by its number. */
#define CLOCK_GETTIME 228
#define PROCESS_CLOCK(pid) (~(long)(pid) << 3 | 2)

/* The kernel is a program, so this is a system call of the host. */
static long read_clock(long clock, s64 *ns)
{
	struct timespec64 time;
	long error;

	asm volatile("syscall"
		     : "=a" (error)
		     : "0" ((long)CLOCK_GETTIME), "D" (clock), "S" (&time)
		     : "rcx", "r11", "memory");
	if (!error)
		*ns += timespec64_to_ns(&time);
	return error;
}

static int get_ns(char *buffer, const struct kernel_param *parameter)
{
	s64 ns = 0;
	long error = read_clock(CLOCK_THREAD_CPUTIME_ID, &ns);

	if (!error)
		error = read_clock(PROCESS_CLOCK(current->mm->context.id.pid), &ns);
	return error ?: sysfs_emit(buffer, "%lld\n", ns);
}

static const struct kernel_param_ops ns_ops = { .get = get_ns };
module_param_cb(ns, &ns_ops, NULL, 0400);
MODULE_PARM_DESC(ns, "nanoseconds that the kernel and the reading program have run");

MODULE_DESCRIPTION("Processor time of User-Mode Linux");
MODULE_LICENSE("Dual MIT/GPL");
