/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Kernel inlines and macros as functions that Rust can call. Nothing else belongs here.
 */
#ifndef VBD_SHIM_H
#define VBD_SHIM_H

#include <linux/types.h>
#include <linux/workqueue.h>

struct bio;
struct bio_vec;
struct file;
struct gendisk;
struct iov_iter;
struct request;

/* INIT_WORK(); all work items of the module share one lockdep class. */
void vbd_init_work(struct work_struct *work, void (*func)(struct work_struct *));

/* memalloc_noio_save() and memalloc_noio_restore(). */
unsigned int vbd_noio_save(void);
void vbd_noio_restore(unsigned int flags);

/* Type and permission bits of the inode behind @file. */
umode_t vbd_file_mode(const struct file *file);

/* What statfs() would say is the kind of file system that @name leads to; 0 if it leads nowhere. */
unsigned long vbd_path_magic(const char *name);

/* i_size_read() of the inode whose pages @file reads: for a block device, its size in bytes. */
loff_t vbd_file_size(const struct file *file);

/* Whether @file's file system can read it past the page cache. */
bool vbd_file_can_direct(const struct file *file);

/*
 * One read of @file from byte @pos into @iter past the page cache; returns the bytes read or an
 * error. The file need not be open for direct reads.
 */
ssize_t vbd_read_direct(struct file *file, loff_t pos, struct iov_iter *iter);

/*
 * Widens the bytes *@start .. *@end of @file, at least one, to the folios of the page cache that hold
 * its first and its last one, where there are such folios.
 */
void vbd_folio_bounds(struct file *file, loff_t *start, loff_t *end);

/*
 * Copies @len bytes of @file from byte @pos to @to, if all of them are in the page cache and up to
 * date, and the file reaches to their end; never sleeps. A false return may leave part of them copied.
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

#endif
