// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Compression of blocks on several processors, with results in the order of the input.

use super::codec::{Crc, Encoder};
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use vbd_format::checksum::SEED_BLOCK;
use vbd_format::zfile::Algorithm;
use vbd_format::Checksum as _;

/// Bytes of input in a batch, a multiple of every block size.
pub const BATCH: usize = 256 * 1024;

/// Batches that a worker may have besides the one it is at.
const QUEUE: usize = 1;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug)]
pub struct BlockFormat {
    /// Codec.
    pub algorithm: Algorithm,
    /// Level, of ZSTD only.
    pub level: i32,
    /// Bytes in a block.
    pub block_size: u32,
    /// Whether a checksum follows each block.
    pub block_crc: bool,
}

/// A compressed batch.
#[derive(Debug, Default)]
pub struct Packed {
    /// The stored blocks, one after the other; valid up to the sum of `lengths`.
    bytes: Vec<u8>,
    used: usize,
    /// Stored length of each block, in bytes.
    pub lengths: Vec<u32>,
    /// The input's memory, for another batch.
    pub spent: Vec<u8>,
}

impl Packed {
    /// The stored blocks.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// Compresses all blocks of `input` into `packed`.
fn compress(
    format: &BlockFormat,
    encoder: &mut Encoder,
    input: Vec<u8>,
    packed: &mut Packed,
) -> io::Result<()> {
    let bound = format.algorithm.bound(format.block_size) as usize + 4;
    let blocks = input.len().div_ceil(format.block_size as usize);
    packed.bytes.resize(blocks * bound, 0);
    packed.lengths.clear();
    packed.used = 0;
    for block in input.chunks(format.block_size as usize) {
        let start = packed.used;
        let mut end = start + encoder.encode(block, &mut packed.bytes[start..])?;
        if format.block_crc {
            let sum = Crc.crc32c(SEED_BLOCK, &packed.bytes[start..end]);
            packed.bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
            end += 4;
        }
        // At most the bound of a block and 4.
        packed.lengths.push((end - start) as u32);
        packed.used = end;
    }
    packed.spent = input;
    packed.spent.clear();
    Ok(())
}

struct Worker {
    input: Option<SyncSender<(Vec<u8>, Packed)>>,
    output: Receiver<io::Result<Packed>>,
    thread: Option<JoinHandle<()>>,
}

/// Workers that are given batches in turn, and asked for results in the same turn.
pub struct Pool {
    workers: Vec<Worker>,
    /// Does the work where there is no thread to be had.
    own: Option<Own>,
    sent: usize,
    received: usize,
}

/// What compresses on the calling thread, and the results that nobody has asked for yet.
struct Own {
    format: BlockFormat,
    encoder: Encoder,
    results: VecDeque<io::Result<Packed>>,
}

impl Pool {
    /// Starts `jobs` workers, at least one, or as many as the system has threads for.
    pub fn new(format: BlockFormat, jobs: usize) -> io::Result<Self> {
        let mut workers = Vec::new();
        for _ in 0..jobs.max(1) {
            let encoder = Encoder::new(format.algorithm, format.level)?;
            match Worker::start(format, encoder) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        let own = match workers.is_empty() {
            true => Some(Own {
                format,
                encoder: Encoder::new(format.algorithm, format.level)?,
                results: VecDeque::new(),
            }),
            false => None,
        };
        Ok(Self {
            workers,
            own,
            sent: 0,
            received: 0,
        })
    }

    /// Whether a result has to be taken before another batch is given.
    pub fn is_full(&self) -> bool {
        self.sent - self.received == self.workers.len().max(1) * (QUEUE + 1)
    }

    /// Hands in the next batch; `packed` is memory for its result.
    pub fn send(&mut self, batch: Vec<u8>, mut packed: Packed) -> io::Result<()> {
        if let Some(own) = &mut self.own {
            let result = compress(&own.format, &mut own.encoder, batch, &mut packed);
            own.results.push_back(result.map(|()| packed));
            self.sent += 1;
            return Ok(());
        }
        let worker = self.sent % self.workers.len();
        self.sent += 1;
        match &self.workers[worker].input {
            Some(input) if input.send((batch, packed)).is_ok() => Ok(()),
            _ => Err(gone()),
        }
    }

    /// Waits for the oldest batch's result; [`None`] if none is under way.
    pub fn receive(&mut self) -> io::Result<Option<Packed>> {
        if self.received == self.sent {
            return Ok(None);
        }
        self.received += 1;
        if let Some(own) = &mut self.own {
            return own.results.pop_front().transpose();
        }
        let worker = (self.received - 1) % self.workers.len();
        let result = self.workers[worker].output.recv().map_err(|_| gone())?;
        result.map(Some)
    }
}

impl Worker {
    fn start(format: BlockFormat, mut encoder: Encoder) -> io::Result<Self> {
        let (input, batches) = sync_channel::<(Vec<u8>, Packed)>(QUEUE);
        let (results, output) = sync_channel(QUEUE + 1);
        let thread = thread::Builder::new()
            .name("compress".into())
            .spawn(move || {
                for (batch, mut packed) in batches {
                    let result =
                        compress(&format, &mut encoder, batch, &mut packed).map(|()| packed);
                    if results.send(result).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            input: Some(input),
            output,
            thread: Some(thread),
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Closed inputs end the workers once nobody waits for their results.
        for worker in &mut self.workers {
            worker.input = None;
        }
        for mut worker in self.workers.drain(..) {
            drop(worker.output);
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has told so already.
                let _ = thread.join();
            }
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("a compression thread ended early")
}
