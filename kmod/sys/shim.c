// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel inlines and macros as functions that Rust can call; shim.h says what each one is.
 */
#include <linux/backing-dev.h>
#include <linux/blk-cgroup.h>
#include <linux/blk-mq.h>
#include <linux/bvec.h>
#include <linux/cgroup.h>
#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/iocontext.h>
#include <linux/ioprio.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/swap.h>
#include <linux/vmalloc.h>

#include "shim.h"

#ifndef CONFIG_64BIT
#error "vbd maps all memory at once and counts bytes and pages in long: 64-bit kernels only"
#endif

void vbd_init_work(struct work_struct *work, void (*func)(struct work_struct *))
{
	INIT_WORK(work, func);
}

void vbd_init_lock(spinlock_t *lock)
{
	spin_lock_init(lock);
}

unsigned long vbd_lock(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

void vbd_unlock(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

unsigned int vbd_online_cpus(void)
{
	return num_online_cpus();
}

unsigned int vbd_noio_save(void)
{
	return memalloc_noio_save();
}

void vbd_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

void vbd_charge_begin(struct vbd_charge *charge, struct bio *bio, int ioprio)
{
	charge->has_io = false;
	charge->memory = NULL;
	charge->has_ioprio = false;
#ifdef CONFIG_BLK_CGROUP
	struct cgroup_subsys_state *io = bio_blkcg_css(bio);

	/* The root group is who a kernel thread reads for anyway. */
	if (io && io != blkcg_root_css) {
		charge->has_io = true;
		kthread_associate_blkcg(io);
#ifdef CONFIG_MEMCG
		charge->memory = cgroup_get_e_css(io->cgroup, &memory_cgrp_subsys);
		if (charge->memory)
			charge->active_memcg =
				set_active_memcg(mem_cgroup_from_css(charge->memory));
#endif
	}
#endif
	/* No class is what asynchronous reads of the kernel itself may have. */
	if (IOPRIO_PRIO_CLASS(ioprio) != IOPRIO_CLASS_NONE && ioprio != get_current_ioprio()) {
		charge->ioprio = current->io_context ? current->io_context->ioprio :
						       IOPRIO_DEFAULT;
		charge->has_ioprio = !set_task_ioprio(current, ioprio);
	}
}

void vbd_charge_end(const struct vbd_charge *charge)
{
	if (charge->has_ioprio)
		set_task_ioprio(current, charge->ioprio);
#ifdef CONFIG_BLK_CGROUP
	if (charge->memory) {
		set_active_memcg(charge->active_memcg);
		css_put(charge->memory);
	}
	if (charge->has_io)
		kthread_associate_blkcg(NULL);
#endif
}

void vbd_bio_own(struct bio *bio)
{
	bio_associate_blkg(bio);
}

int vbd_request_ioprio(struct request *rq)
{
	return req_get_ioprio(rq);
}

int vbd_bio_ioprio(struct bio *bio)
{
	return bio->bi_ioprio;
}

umode_t vbd_file_mode(const struct file *file)
{
	return file_inode(file)->i_mode;
}

unsigned long vbd_path_magic(const char *name)
{
	unsigned long magic;
	struct path path;

	if (kern_path(name, LOOKUP_FOLLOW, &path))
		return 0;
	magic = path.dentry->d_sb->s_magic;
	path_put(&path);
	return magic;
}

loff_t vbd_file_size(const struct file *file)
{
	return i_size_read(file->f_mapping->host);
}

bool vbd_file_can_direct(const struct file *file)
{
	return file->f_mode & FMODE_CAN_ODIRECT;
}

static ssize_t vbd_read_flags(struct file *file, loff_t pos, struct iov_iter *iter, int flags,
			      struct wait_page_queue *wait)
{
	const struct cred *cred = override_creds(file->f_cred);
	struct kiocb kiocb = {
		.ki_filp = file,
		.ki_pos = pos,
		.ki_flags = flags,
		.ki_ioprio = get_current_ioprio(),
		.ki_waitq = wait,
	};
	ssize_t len = vfs_iocb_iter_read(file, &kiocb, iter);

	revert_creds(cred);
	return len;
}

ssize_t vbd_read(struct file *file, loff_t pos, struct iov_iter *iter, bool direct)
{
	return vbd_read_flags(file, pos, iter, direct ? IOCB_DIRECT : 0, NULL);
}

static int vbd_page_woken(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct wait_page_queue *wait = container_of(entry, struct wait_page_queue, wait);
	void (*woken)(struct wait_page_queue *wait) = entry->private;

	if (!wake_page_match(wait, key))
		return 0;
	/* Off the page's list before anybody learns of it: @wait may be used again at once. */
	list_del_init(&entry->entry);
	woken(wait);
	return 1;
}

void vbd_init_page_wait(struct wait_page_queue *wait,
			void (*woken)(struct wait_page_queue *wait))
{
	wait->wait.func = vbd_page_woken;
	wait->wait.private = woken;
	wait->wait.flags = 0;
	INIT_LIST_HEAD(&wait->wait.entry);
}

/* Whether someone wants to be asked before @file is read: he may have what the cache shows as a hole. */
static bool vbd_watched(const struct file *file)
{
	return FMODE_FSNOTIFY_HSM(file->f_mode) || FMODE_FSNOTIFY_ACCESS_PERM(file->f_mode);
}

ssize_t vbd_read_start(struct file *file, loff_t pos, struct iov_iter *iter,
		       struct wait_page_queue *wait)
{
	/* His answer would have to be waited for. */
	if (!(file->f_op->fop_flags & FOP_BUFFER_RASYNC) || vbd_watched(file))
		return -EAGAIN;
	return vbd_read_flags(file, pos, iter, IOCB_WAITQ, wait);
}

void vbd_forget(struct file *file, loff_t pos, loff_t len)
{
	struct address_space *mapping = file->f_mapping;

	/* An overlay has no pages of its own: they are those of the file that it shows. */
	if (S_ISREG(file_inode(file)->i_mode))
		mapping = d_real_inode(file_dentry(file))->i_mapping;
	/* What lies in memory alone has no storage to ask. */
	if (mapping_can_writeback(mapping))
		invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT,
					      (pos + len - 1) >> PAGE_SHIFT);
}

bool vbd_copy_cached(struct file *file, loff_t pos, void *to, size_t len)
{
	if (vbd_watched(file))
		return false;
	while (len) {
		struct folio *folio = filemap_get_folio(file->f_mapping, pos >> PAGE_SHIFT);
		size_t offset, part;
		bool good;

		if (IS_ERR(folio))
			return false;
		offset = offset_in_folio(folio, pos);
		part = min(folio_size(folio) - offset, len);
		good = folio_test_uptodate(folio) && !folio_contain_hwpoisoned_page(folio);
		if (good) {
			memcpy(to, folio_address(folio) + offset, part);
			folio_mark_accessed(folio);
		}
		folio_put(folio);
		if (!good)
			return false;
		pos += part;
		to += part;
		len -= part;
	}
	/*
	 * Whoever truncates a file makes it smaller first and then clears the rest of its last page: if
	 * the file still reaches this far, what was copied is what was stored.
	 */
	smp_rmb();
	return pos <= i_size_read(file->f_mapping->host);
}

/* What is left to list: bytes to skip, bytes wanted, and places in the list. */
struct vbd_listing {
	struct bio_vec *segments;
	unsigned int room;
	unsigned int count;
	unsigned int skip;
	unsigned int left;
};

/* Lists the wanted part of @segment; false when the listing is complete. */
static bool vbd_list(struct vbd_listing *listing, const struct bio_vec *segment)
{
	unsigned int part;

	if (listing->skip >= segment->bv_len) {
		listing->skip -= segment->bv_len;
		return true;
	}
	if (!listing->left || listing->count == listing->room)
		return false;
	part = min(segment->bv_len - listing->skip, listing->left);
	bvec_set_page(&listing->segments[listing->count++], segment->bv_page, part,
		      segment->bv_offset + listing->skip);
	listing->left -= part;
	listing->skip = 0;
	return true;
}

unsigned int vbd_request_segments(struct request *rq, unsigned int skip, unsigned int len,
				  struct bio_vec *segments, unsigned int room,
				  unsigned int *covered)
{
	struct vbd_listing listing = {
		.segments = segments, .room = room, .skip = skip, .left = len,
	};
	struct req_iterator iter;
	struct bio_vec segment;

	rq_for_each_bvec(segment, rq, iter)
		if (!vbd_list(&listing, &segment))
			break;
	*covered = len - listing.left;
	return listing.count;
}

unsigned int vbd_bio_segments(struct bio *bio, unsigned int skip, unsigned int len,
			      struct bio_vec *segments, unsigned int room, unsigned int *covered)
{
	struct vbd_listing listing = {
		.segments = segments, .room = room, .skip = skip, .left = len,
	};
	struct bvec_iter iter;
	struct bio_vec segment;

	bio_for_each_bvec(segment, bio, iter)
		if (!vbd_list(&listing, &segment))
			break;
	*covered = len - listing.left;
	return listing.count;
}

void *vbd_segment_address(const struct bio_vec *segment)
{
	return page_address(segment->bv_page) + segment->bv_offset;
}

void vbd_segment_flush(const struct bio_vec *segment)
{
	struct bio_vec page;
	struct bvec_iter iter;
	struct bvec_iter start = { .bi_size = segment->bv_len };

	/* Empty where caches need no help, x86 among them. */
	if (!ARCH_IMPLEMENTS_FLUSH_DCACHE_PAGE)
		return;
	for_each_bvec(page, segment, iter, start)
		flush_dcache_page(page.bv_page);
}

/*
 * When some of the requests have found memory and others have not, blk_mq_alloc_tag_set() has the tags
 * freed after a grace period of the set itself (block/blk-mq-tag.c, blk_mq_free_tags()), and then, other
 * than blk_mq_free_tag_set(), cleans up without waiting for that: it warns, and leaves everything as it
 * is, to point to a set that its owner is about to free. The pointer is null where all was cleaned up.
 *
 * It may by then have deleted the timer by which callbacks of a grace period that is over would be called;
 * srcu_barrier() alone would wait for them for ever. The end of one more grace period has them called.
 */
void vbd_end_failed_tag_set(struct blk_mq_tag_set *set)
{
#ifdef CONFIG_TREE_SRCU
	if (set->tags_srcu.srcu_sup) {
		synchronize_srcu(&set->tags_srcu);
		srcu_barrier(&set->tags_srcu);
		cleanup_srcu_struct(&set->tags_srcu);
	}
#endif
}

unsigned int vbd_disk_openers(struct gendisk *disk)
{
	return disk_openers(disk);
}

bool vbd_log_allowed(void)
{
	static DEFINE_RATELIMIT_STATE(state, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&state);
}

void *vbd_table_alloc(size_t bytes)
{
	gfp_t flags = GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL;

	return bytes <= PAGE_SIZE ? kmalloc(bytes, flags) : __vmalloc(bytes, flags);
}

void vbd_table_free(const void *table)
{
	kvfree(table);
}

u64 vbd_total_memory(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}

unsigned int vbd_present_cpus(void)
{
	return num_present_cpus();
}
