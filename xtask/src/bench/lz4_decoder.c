// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * The kernel's LZ4 decoder and nothing else: what a compressed device could reach at most.
 *
 * Loading the module compresses a file in blocks of 4 KiB, as a layer's are, and keeps them in
 * memory. Each write of a number to the parameter "run" decodes all of them once, shared out to so many
 * workers, each into memory of the size of a large read, over and over.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/lz4.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#define BLOCK_BYTES 4096
#define LARGE_BYTES (32 * BLOCK_BYTES)
#define MAX_WORKERS 8

static char *file;
module_param(file, charp, 0400);
MODULE_PARM_DESC(file, "what is compressed");

static void *packed;
/* Where each block ends in it; the first one begins at 0. */
static u32 *ends;
static u32 blocks;
static struct workqueue_struct *queue;

static struct worker {
	struct work_struct work;
	void *out;
	/* Its blocks. */
	u32 first, end;
	int error;
} workers[MAX_WORKERS];

static void decode(struct work_struct *work)
{
	struct worker *worker = container_of(work, struct worker, work);
	u32 begin = worker->first ? ends[worker->first - 1] : 0;

	worker->error = 0;
	for (u32 block = worker->first; block < worker->end; block++) {
		void *to = worker->out + block * BLOCK_BYTES % LARGE_BYTES;
		int size = LZ4_decompress_safe(packed + begin, to, ends[block] - begin, BLOCK_BYTES);

		if (size != BLOCK_BYTES) {
			worker->error = -EIO;
			return;
		}
		begin = ends[block];
		cond_resched();
	}
}

static int run(const char *value, const struct kernel_param *parameter)
{
	u32 count;
	int error = kstrtou32(value, 10, &count);

	if (error || count < 1 || count > MAX_WORKERS)
		return error ?: -ERANGE;
	for (u32 number = 0; number < count; number++) {
		struct worker *worker = &workers[number];

		worker->first = (u64)blocks * number / count;
		worker->end = (u64)blocks * (number + 1) / count;
		/* One needs no other thread than this. */
		if (count == 1)
			decode(&worker->work);
		else
			queue_work(queue, &worker->work);
	}
	for (u32 number = 0; number < count; number++) {
		flush_work(&workers[number].work);
		error = error ?: workers[number].error;
	}
	return error;
}

static const struct kernel_param_ops run_ops = { .set = run };
module_param_cb(run, &run_ops, NULL, 0200);
MODULE_PARM_DESC(run, "write how many workers shall decode all blocks once");

static int pack(struct file *from, void *work)
{
	void *block = workers[0].out;
	u32 end = 0;
	loff_t pos = 0;

	for (u32 number = 0; number < blocks; number++) {
		ssize_t size = kernel_read(from, block, BLOCK_BYTES, &pos);
		int used;

		if (size != BLOCK_BYTES)
			return size < 0 ? size : -EIO;
		used = LZ4_compress_default(block, packed + end, BLOCK_BYTES, LZ4_compressBound(BLOCK_BYTES),
					    work);
		if (!used)
			return -EIO;
		end += used;
		ends[number] = end;
		cond_resched();
	}
	return 0;
}

static void release(void)
{
	if (queue)
		destroy_workqueue(queue);
	vfree(packed);
	vfree(ends);
	for (u32 number = 0; number < MAX_WORKERS; number++)
		vfree(workers[number].out);
}

static int __init decoder_init(void)
{
	struct file *from = filp_open(file ?: "", O_RDONLY, 0);
	void *work = vmalloc(LZ4_MEM_COMPRESS);
	bool ready = true;
	int error = -ENOMEM;

	if (IS_ERR(from)) {
		vfree(work);
		return PTR_ERR(from);
	}
	blocks = i_size_read(file_inode(from)) / BLOCK_BYTES;
	packed = vmalloc((size_t)blocks * LZ4_compressBound(BLOCK_BYTES));
	ends = vmalloc(blocks * sizeof(*ends));
	queue = alloc_workqueue("lz4_decoder", WQ_UNBOUND, 0);
	for (u32 number = 0; number < MAX_WORKERS; number++) {
		INIT_WORK(&workers[number].work, decode);
		workers[number].out = vmalloc(LARGE_BYTES);
		ready = ready && workers[number].out;
	}
	if (work && packed && ends && queue && ready)
		error = pack(from, work);
	vfree(work);
	filp_close(from, NULL);
	if (error)
		release();
	return error;
}

static void __exit decoder_exit(void)
{
	release();
}

module_init(decoder_init);
module_exit(decoder_exit);
MODULE_DESCRIPTION("The kernel's LZ4 decoder by itself, to be measured");
MODULE_LICENSE("Dual MIT/GPL");
