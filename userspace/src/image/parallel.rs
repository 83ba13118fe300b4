// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Work on several processors, with results in the order of the tasks.

use crate::error::Result;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Tasks that a worker may have besides the one it is at.
const QUEUE: usize = 1;

/// Threads that read and decode, unless told otherwise: each holds a few MiB.
const MOST_READERS: usize = 16;

/// Threads for reading where the user asked for `jobs`, or for none in particular.
pub fn readers(jobs: Option<usize>) -> usize {
    let cpus = || thread::available_parallelism().map_or(1, usize::from);
    jobs.unwrap_or_else(cpus).clamp(1, MOST_READERS)
}

/// Hands `tasks` to `jobs` threads, and what they make of them to `sink`, in the order of the tasks.
///
/// `worker` makes what a thread keeps between tasks, `tasks` gives the next task, or [`None`] after
/// the last one; they and `sink` run on the calling thread. At most `2 * jobs` tasks are under way. Where
/// there are fewer threads to be had, those do the work, and the calling thread if there is none.
/// The first error, and a sink that breaks, end the work.
pub fn in_order<T: Send, R: Send, W: Send>(
    jobs: usize,
    mut worker: impl FnMut() -> W,
    work: impl Fn(&mut W, T) -> R + Sync,
    mut tasks: impl FnMut() -> Result<Option<T>>,
    mut sink: impl FnMut(R) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let jobs = jobs.max(1);
    thread::scope(|scope| {
        let mut workers = Vec::with_capacity(jobs);
        for _ in 0..jobs {
            let (input, todo) = sync_channel::<T>(QUEUE);
            let (done, output) = sync_channel::<R>(QUEUE + 1);
            let (mut kept, work) = (worker(), &work);
            let run = move || {
                for task in todo {
                    if done.send(work(&mut kept, task)).is_err() {
                        break;
                    }
                }
            };
            // As many as the system has threads for.
            match thread::Builder::new().spawn_scoped(scope, run) {
                Ok(_) => workers.push((input, output)),
                Err(_) => break,
            }
        }
        let jobs = workers.len();
        if jobs == 0 {
            let mut kept = worker();
            while let Some(task) = tasks()? {
                if sink(work(&mut kept, task))?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        // The workers of the tasks under way, oldest first.
        let mut pending = VecDeque::with_capacity(jobs * (QUEUE + 1));
        let mut turn = (0..jobs).cycle();
        let mut more = true;
        loop {
            while more && pending.len() < jobs * (QUEUE + 1) {
                match (tasks()?, turn.next()) {
                    (Some(task), Some(next)) => {
                        // A worker goes away only by a panic, which the scope hands on.
                        if workers[next].0.send(task).is_err() {
                            return Ok(());
                        }
                        pending.push_back(next);
                    }
                    _ => more = false,
                }
            }
            let Some(oldest) = pending.pop_front() else {
                return Ok(());
            };
            let Ok(result) = workers[oldest].1.recv() else {
                return Ok(());
            };
            if sink(result)?.is_break() {
                return Ok(());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::path::Path;

    fn run(jobs: usize, count: u64, stop: u64) -> Result<Vec<u64>> {
        let mut next = 0;
        let mut seen = Vec::new();
        in_order(
            jobs,
            || 0u64,
            |kept, task: u64| {
                *kept += 1;
                task * task
            },
            || {
                next += 1;
                match next - 1 {
                    n if n == stop => Err(Error::unfit(Path::new("x"), "stop")),
                    n => Ok((n < count).then_some(n)),
                }
            },
            |result| {
                seen.push(result);
                Ok(if result == 49 * 49 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            },
        )?;
        Ok(seen)
    }

    #[test]
    fn results_come_in_order() {
        for jobs in [0, 1, 2, 7] {
            let squares: Vec<u64> = (0..40).map(|n| n * n).collect();
            assert_eq!(run(jobs, 40, u64::MAX).unwrap(), squares);
            assert_eq!(run(jobs, 1000, u64::MAX).unwrap().len(), 50);
            assert_eq!(run(jobs, 0, u64::MAX).unwrap().len(), 0);
            assert!(run(jobs, 1000, 20).is_err());
        }
    }
}
