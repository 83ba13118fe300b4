// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The jump table against prefix sums, and runs of blocks against the table.

mod property;

use property::config;
use proptest::prelude::*;
use vbd_format::zfile::{
    load_jump_table, probe, Group, JumpTable, Run, Stored, ZFile, GROUP_BLOCKS,
};
use vbd_format::{Checksum as _, Error, Rule};
use vbd_tests_host::crc::RawCrc;
use vbd_tests_host::mem::Sparse;
use vbd_tests_host::open::groups_into;
use vbd_tests_host::zfile::{seal, Spec};
use vbd_tests_host::{put_u32, put_u64};

/// What a table is made for.
#[derive(Clone, Debug)]
struct Kind {
    algo: u8,
    block_size: u32,
    verify: u8,
    dict: u32,
    /// Entries past the blocks that the size needs.
    extra: usize,
    /// Bytes that the last needed block falls short of a full one.
    short: u64,
}

impl Kind {
    fn crc(&self) -> u32 {
        u32::from(self.verify) * 4
    }

    /// The longest stored block, by the codecs' own bounds.
    fn longest(&self) -> u32 {
        let n = self.block_size;
        let bound = if self.algo == 1 {
            n + n / 255 + 16
        } else {
            n + n / 256 + 64
        };
        bound + self.crc()
    }

    /// A file that claims these stored lengths; its blocks are zeroes.
    fn file(&self, lengths: &[u32]) -> Sparse {
        let mut spec = Spec::of(&[], self.algo, self.block_size);
        spec.verify = self.verify;
        let table: Vec<u8> = lengths.iter().flat_map(|len| len.to_le_bytes()).collect();
        let at = 512 + u64::from(self.dict) + lengths.iter().map(|&l| u64::from(l)).sum::<u64>();
        let blocks = (lengths.len() - self.extra) as u64;
        let size = (blocks * u64::from(self.block_size)).saturating_sub(self.short);
        let mut header = spec.structure(0x1b, true);
        put_u64(&mut header, 40, at);
        put_u64(&mut header, 48, lengths.len() as u64);
        put_u64(&mut header, 56, size);
        put_u32(&mut header, 64, RawCrc.crc32c(0, &table));
        put_u32(&mut header, 84, self.dict);
        seal(&mut header, 0);
        Sparse {
            size: at + table.len() as u64,
            pieces: vec![(0, header), (at, table)],
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    (
        1..=2u8,
        9..=16u32,
        0..=1u8,
        prop::sample::select(vec![0, 1, 4096, u32::MAX]),
        0..70usize,
        any::<u64>(),
    )
        .prop_map(|(algo, shift, verify, dict, extra, short)| Kind {
            algo,
            block_size: 1 << shift,
            verify,
            dict,
            extra,
            short: short % (1 << shift),
        })
}

/// A kind, and lengths that are legal for it: any, smallest, longest, and around 16 bits.
fn table() -> impl Strategy<Value = (Kind, Vec<u32>)> {
    (kind(), prop::collection::vec(any::<u32>(), 1..300)).prop_map(|(mut kind, words)| {
        let (least, most) = (kind.crc() + 1, kind.longest());
        let lengths: Vec<u32> = words
            .into_iter()
            .map(|word| match word % 8 {
                0 => least,
                1 => most,
                2 => 65535.clamp(least, most),
                3 => 65536.clamp(least, most),
                _ => least + (word / 8) % (most - least + 1),
            })
            .collect();
        kind.extra = kind.extra.min(lengths.len() - 1);
        (kind, lengths)
    })
}

fn load(file: &Sparse, room: usize) -> Result<(ZFile, Vec<Group>), Error> {
    let zfile = probe(file, &RawCrc)?.expect("a ZFile");
    let mut groups = Vec::new();
    let more = groups_into(&mut groups);
    load_jump_table(file, &zfile, &RawCrc, &mut vec![0; room], more)?;
    Ok((zfile, groups))
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn stored_is_the_prefix_sum((kind, lengths) in table(), room in 128..3000usize) {
        let (zfile, groups) = load(&kind.file(&lengths), room).expect("legal");
        let blocks = lengths.len() - kind.extra;
        assert_eq!(zfile.blocks(), blocks as u64);
        assert_eq!(zfile.max_stored(), kind.longest() as usize);
        assert_eq!(groups.len(), blocks.div_ceil(GROUP_BLOCKS as usize));
        assert_eq!(groups.len(), vbd_format::zfile::groups(&zfile));
        let table = JumpTable::new(&zfile, &groups);
        let mut offset = 512 + u64::from(kind.dict);
        for (block, &len) in lengths[..blocks].iter().enumerate() {
            let want = Stored { offset, len: len as usize };
            assert_eq!(table.stored(block as u64), Some(want), "block {block}");
            offset += u64::from(len);
        }
        for past in [blocks as u64, blocks as u64 + 31, 1 << 40, u64::MAX] {
            assert_eq!(table.stored(past), None);
        }
    }

    #[test]
    fn a_wrong_byte_in_the_table_is_noticed(
        (kind, lengths) in table(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let mut file = kind.file(&lengths);
        let (table_at, table) = &mut file.pieces[1];
        let at = at.index(table.len());
        table[at] ^= 1 << bit;
        let entry = *table_at + (at as u64 & !3);
        let error = load(&file, 128).expect_err("a changed table");
        match error.rule {
            Rule::ZFileStoredLength => assert_eq!(error.offset, entry),
            Rule::ZFileBlockBounds => assert!(error.offset >= entry),
            rule => assert_eq!((rule, error.offset), (Rule::ZFileTableCrc, *table_at_of(&file))),
        }
    }

    #[test]
    fn runs(
        (kind, lengths) in table(),
        first in 0..320u64,
        count in 0..80u64,
        room in 0..400_000usize,
    ) {
        let (zfile, groups) = load(&kind.file(&lengths), 4096).expect("legal");
        let table = JumpTable::new(&zfile, &groups);
        let kept = &lengths[..lengths.len() - kind.extra];
        let last = first + count;
        let run = Run::new(&table, first, last, room);

        // The longest prefix of the wished-for blocks that fits, one by one.
        let (mut want, mut sum) = (0u64, 0usize);
        while let Some(&len) = kept.get((first + want) as usize) {
            if first + want > last || sum + len as usize > room {
                break;
            }
            sum += len as usize;
            want += 1;
        }
        match run {
            None => assert_eq!(want, 0),
            Some(run) => {
                assert_eq!((run.first, run.count, run.len), (first, want, sum));
                assert_eq!(Some(run.offset), table.stored(first).map(|s| s.offset));
                for block in 0..340 {
                    assert_eq!(run.contains(block), (first..first + want).contains(&block));
                }
            }
        }
        if first < kept.len() as u64 {
            assert!(Run::new(&table, first, first, zfile.max_stored()).is_some());
        }
    }
}

fn table_at_of(file: &Sparse) -> &u64 {
    &file.pieces[1].0
}

#[test]
fn runs_before_their_first_block_hold_one() {
    let kind = Kind {
        algo: 1,
        block_size: 4096,
        verify: 1,
        dict: 0,
        extra: 0,
        short: 0,
    };
    let (zfile, groups) = load(&kind.file(&[100; 5]), 4096).expect("legal");
    let table = JumpTable::new(&zfile, &groups);
    let run = Run::new(&table, 3, 0, 1000).expect("a run");
    assert_eq!((run.count, run.offset, run.len), (1, 812, 100));
    let all = Run::new(&table, 0, u64::MAX, usize::MAX).expect("a run");
    assert_eq!((all.count, all.offset, all.len), (5, 512, 500));
    assert_eq!(Run::new(&table, 5, 9, 1000), None);
}

#[test]
fn blocks_of_64_kib_that_did_not_compress_all_fit() {
    // Upstream keeps 16-bit sums over each 64 KiB of blocks and cannot read these.
    for (algo, longest) in [(1, 65_536 + 257 + 16), (2, 65_536 + 256 + 64)] {
        let kind = Kind {
            algo,
            block_size: 65536,
            verify: 0,
            dict: u32::MAX,
            extra: 0,
            short: 0,
        };
        let lengths = vec![longest; 100];
        let (zfile, groups) = load(&kind.file(&lengths), 4096).expect("legal");
        let table = JumpTable::new(&zfile, &groups);
        for block in 0..100 {
            let want = Stored {
                offset: 512 + u64::from(u32::MAX) + block * u64::from(longest),
                len: longest as usize,
            };
            assert_eq!(table.stored(block), Some(want));
        }
    }
}

#[test]
fn a_group_is_handed_over_as_soon_as_it_is_proven() {
    // The 70th entry is bad: two groups of 32 were handed over by then, and no third.
    let kind = Kind {
        algo: 1,
        block_size: 4096,
        verify: 1,
        dict: 0,
        extra: 0,
        short: 0,
    };
    let mut lengths = vec![50; 100];
    lengths[69] = 4;
    let file = kind.file(&lengths);
    let zfile = probe(&file, &RawCrc).expect("legal").expect("a ZFile");
    let mut groups = Vec::new();
    let more = groups_into(&mut groups);
    let result = load_jump_table(&file, &zfile, &RawCrc, &mut [0; 128], more);
    let at = zfile.index_offset + 69 * 4;
    assert_eq!(result, Err(Error::new(Rule::ZFileStoredLength, at, 4)));
    assert_eq!(groups.len(), 3, "groups that were asked for");
}

#[test]
fn the_sink_s_error_ends_the_load() {
    let kind = Kind {
        algo: 1,
        block_size: 4096,
        verify: 1,
        dict: 0,
        extra: 0,
        short: 0,
    };
    let file = kind.file(&[50; 100]);
    let zfile = probe(&file, &RawCrc).expect("legal").expect("a ZFile");
    let full = Error::new(Rule::ZFileTableMemory, 1, 2);
    let mut calls = 0;
    let result = load_jump_table(&file, &zfile, &RawCrc, &mut [0; 4096], |_, _| {
        calls += 1;
        Err(full)
    });
    assert_eq!((result, calls), (Err(full), 1));
}

#[test]
fn a_group_takes_76_bytes() {
    assert_eq!(core::mem::size_of::<Group>(), 76);
    assert_eq!(GROUP_BLOCKS, 32);
}
