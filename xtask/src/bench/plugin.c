// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
//
// Plugin of QEMU's emulator: at each mark of the guest's load generator, writes one line with the
// instructions that all processors have run so far in the kernel and outside of it. See plugin.rs.
//
// Debian's QEMU has plugins and ships no header, so what is used of the stable interface (version 3,
// QEMU 9.1 and later) is declared here.
//
// Instructions are added where a translated block begins, so those behind a fault in the middle of
// a block count as well. A halted processor runs none.

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_scoreboard;

typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;

enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
		void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb,
		enum qemu_plugin_op op, qemu_plugin_u64 entry, uint64_t imm);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
		void (*cb)(unsigned int vcpu, void *data), enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int vcpu, void *data), enum qemu_plugin_cb_flags flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t number);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t length);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t size);
uint64_t qemu_plugin_u64_sum(qemu_plugin_u64 entry);

#define EXPORT __attribute__((visibility("default")))
#define KERNEL UINT64_C(0xffff800000000000)
#define PROCESSORS 64
#define PAUSES 32

struct sums {
	uint64_t kernel;
	uint64_t user;
};

EXPORT int qemu_plugin_version = 3;

static qemu_plugin_u64 kernel, user;
static FILE *out;
/* With a profile: each translated block of the kernel, and how often it ran since the last mark. */
static FILE *profile;
static struct block {
	struct block *next;
	uint64_t at, instructions, runs;
} *blocks;
/* Address of the last pause outside of the kernel, and how many there were in a row. */
static struct { uint64_t at; unsigned int count; } row[PROCESSORS];

static void ran(unsigned int vcpu, void *data)
{
	struct block *block = data;

	(void)vcpu;
	__atomic_fetch_add(&block->runs, 1, __ATOMIC_RELAXED);
}

static void write_profile(void)
{
	struct block *block = __atomic_load_n(&blocks, __ATOMIC_ACQUIRE);

	fprintf(profile, "mark\n");
	for (; block; block = block->next) {
		uint64_t runs = __atomic_exchange_n(&block->runs, 0, __ATOMIC_RELAXED);

		if (runs)
			fprintf(profile, "%" PRIx64 " %" PRIu64 "\n", block->at,
				runs * block->instructions);
	}
	fflush(profile);
}

static void watch(struct qemu_plugin_tb *tb, size_t count)
{
	struct block *block = malloc(sizeof(*block));

	if (!block)
		return;
	*block = (struct block) { blocks, qemu_plugin_tb_vaddr(tb), count, 0 };
	while (!__atomic_compare_exchange_n(&blocks, &block->next, block, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, ran, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void paused(unsigned int vcpu, void *data)
{
	uint64_t at = (uint64_t)(uintptr_t)data;

	if (vcpu >= PROCESSORS)
		return;
	row[vcpu].count = at == row[vcpu].at + 2 ? row[vcpu].count + 1 : 1;
	row[vcpu].at = at;
	if (row[vcpu].count == PAUSES) {
		fprintf(out, "%" PRIu64 " %" PRIu64 "\n", qemu_plugin_u64_sum(kernel),
			qemu_plugin_u64_sum(user));
		fflush(out);
		if (profile)
			write_profile();
	}
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	static const uint8_t pause[2] = { 0xf3, 0x90 };
	size_t count = qemu_plugin_tb_n_insns(tb);
	bool inside = qemu_plugin_tb_vaddr(tb) >= KERNEL;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
							  inside ? kernel : user, count);
	if (inside && profile)
		watch(tb, count);
	for (size_t number = 0; !inside && number < count; number++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, number);
		uint8_t bytes[2];

		if (qemu_plugin_insn_size(insn) != sizeof(bytes))
			continue;
		if (qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes))
			continue;
		if (memcmp(bytes, pause, sizeof(bytes)) == 0)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, paused, QEMU_PLUGIN_CB_NO_REGS,
				(void *)(uintptr_t)qemu_plugin_insn_vaddr(insn));
	}
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	struct qemu_plugin_scoreboard *score = qemu_plugin_scoreboard_new(sizeof(struct sums));

	(void)info;
	for (int number = 0; number < argc; number++) {
		if (strncmp(argv[number], "to=", 3) == 0)
			out = fopen(argv[number] + 3, "w");
		else if (strncmp(argv[number], "profile=", 8) == 0)
			profile = fopen(argv[number] + 8, "w");
		else
			return -1;
	}
	if (!out)
		return -1;
	kernel = (qemu_plugin_u64) { score, offsetof(struct sums, kernel) };
	user = (qemu_plugin_u64) { score, offsetof(struct sums, user) };
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
