/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel inlines and macros as functions that Rust can call. Nothing else belongs here.
 */
#ifndef VBD_SHIM_H
#define VBD_SHIM_H

#include <linux/spinlock_types.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct bio;
struct bio_vec;
struct cgroup_subsys_state;
struct file;
struct gendisk;
struct iov_iter;
struct mem_cgroup;
struct request;
struct wait_page_queue;

/* INIT_WORK(); all work items of the module share one lockdep class. */
void vbd_init_work(struct work_struct *work, void (*func)(struct work_struct *));

/* A spinlock that is also taken where interrupts are off. */
void vbd_init_lock(spinlock_t *lock);
unsigned long vbd_lock(spinlock_t *lock);
void vbd_unlock(spinlock_t *lock, unsigned long flags);

/* num_online_cpus(). */
unsigned int vbd_online_cpus(void);

/* memalloc_noio_save() and memalloc_noio_restore(). */
unsigned int vbd_noio_save(void);
void vbd_noio_restore(unsigned int flags);

/* Whom work of the current task is charged to, before vbd_charge_begin(). */
struct vbd_charge {
	/* Whether the task has a group for its reads. */
	bool has_io;
	/* A reference, or null. */
	struct cgroup_subsys_state *memory;
	struct mem_cgroup *active_memcg;
	int ioprio;
	bool has_ioprio;
};

/*
 * Has what the current task reads, and the page cache that it fills, charged to the control groups of
 * whoever submitted @bio, at priority @ioprio, until vbd_charge_end() in the same task, which has to be
 * a kernel thread. @bio may be null, and may end meanwhile.
 */
void vbd_charge_begin(struct vbd_charge *charge, struct bio *bio, int ioprio);
void vbd_charge_end(const struct vbd_charge *charge);

/*
 * bio_associate_blkg(): says whose a bio is that device-mapper has cloned, which is the current task's
 * while it is mapped.
 */
void vbd_bio_own(struct bio *bio);

/* The priority of a request and of a bio. */
int vbd_request_ioprio(struct request *rq);
int vbd_bio_ioprio(struct bio *bio);

/* Type and permission bits of the inode behind @file. */
umode_t vbd_file_mode(const struct file *file);

/* What statfs() would say is the kind of file system that @name leads to; 0 if it leads nowhere. */
unsigned long vbd_path_magic(const char *name);

/* i_size_read() of the inode whose pages @file reads: for a block device, its size in bytes. */
loff_t vbd_file_size(const struct file *file);

/* Whether @file's file system can read it past the page cache. */
bool vbd_file_can_direct(const struct file *file);

/*
 * One read of @file from byte @pos into @iter, with the credentials of whoever opened it; returns the
 * bytes read or an error. Whether the page cache is passed by is for @direct alone to say: the file's
 * own flags may be another process's, who can change them at any time.
 */
ssize_t vbd_read(struct file *file, loff_t pos, struct iov_iter *iter, bool direct);

/*
 * Prepares @wait for vbd_read_start(); @woken will be called with it, at most once for each of those, in
 * any context and with a lock held that all waiters for pages share.
 */
void vbd_init_page_wait(struct wait_page_queue *wait,
			void (*woken)(struct wait_page_queue *wait));

/*
 * vbd_read() through the page cache that starts reading what is missing there, and does not wait for it.
 * -EIOCBQUEUED says that @wait will be woken when a page is there, and is not to be touched before that;
 * after any other answer it will not be woken, and -EAGAIN says that only vbd_read() will do.
 */
ssize_t vbd_read_start(struct file *file, loff_t pos, struct iov_iter *iter,
		       struct wait_page_queue *wait);

/*
 * Drops the clean folios of the page cache that hold any of the bytes @pos .. @pos + @len of @file, at
 * least one, so that the next read asks the storage. Costs other users of the machine nothing, but those
 * who map the folios: they will have to ask for them again.
 */
void vbd_forget(struct file *file, loff_t pos, loff_t len);

/*
 * Copies @len bytes of @file from byte @pos to @to, if all of them are in the page cache and up to
 * date, the file reaches to their end, and nobody wants to be asked before it is read (fanotify); never
 * sleeps. A false return may leave part of them copied.
 */
bool vbd_copy_cached(struct file *file, loff_t pos, void *to, size_t len);

/*
 * Lists the memory of bytes @skip .. @skip + @len of a request or bio in @segments, at most @room
 * elements, and returns the number of elements; *@covered is the number of bytes they hold.
 */
unsigned int vbd_request_segments(struct request *rq, unsigned int skip, unsigned int len,
				  struct bio_vec *segments, unsigned int room,
				  unsigned int *covered);
unsigned int vbd_bio_segments(struct bio *bio, unsigned int skip, unsigned int len,
			      struct bio_vec *segments, unsigned int room, unsigned int *covered);

/* Kernel address of the first byte of @segment, and flush_dcache_page() for all its pages. */
void *vbd_segment_address(const struct bio_vec *segment);
void vbd_segment_flush(const struct bio_vec *segment);

/*
 * Ends the grace periods that a blk_mq_alloc_tag_set() that has failed may leave behind in @set, which
 * was zero before but for the driver's fields. Must be called before the memory of @set goes.
 */
void vbd_end_failed_tag_set(struct blk_mq_tag_set *set);

/* disk_openers(); only stable under the disk's open_mutex. */
unsigned int vbd_disk_openers(struct gendisk *disk);

/* __ratelimit() over one state for the module: whether a message may be printed now. */
bool vbd_log_allowed(void);

/*
 * Memory of @bytes bytes, at least one, in whole pages where it is more than one; null where there is
 * none to be had without killing somebody for it. May sleep. Freed by vbd_table_free().
 */
void *vbd_table_alloc(size_t bytes);
void vbd_table_free(const void *table);

/* totalram_pages(), in bytes. */
u64 vbd_total_memory(void);

/* num_present_cpus(). */
unsigned int vbd_present_cpus(void);

#endif
