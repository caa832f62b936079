//! Threads that share the work of one eval.
//!
//! rayon runs the threads, which are joined when the last user of a [`ThreadPool`]
//! goes. Work inside an eval is not rayon's: a [`Team`] is entered once, its
//! workers spin on a word and then park, and a phase costs half a microsecond
//! instead of a dozen. A host may bring its own job system instead of threads.
//!
//! Work is cut by output row, so results do not depend on how many threads take
//! part, nor on which takes what.
#![allow(unsafe_code)] // job pointers and disjoint parts cross threads here, and only here

mod ahead;
mod cpu;
mod fp;
mod joined;
mod parts;
mod ranges;
mod share;
mod sync;
mod team;

pub use ahead::Pieces;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use ahead::prefetch;
pub(crate) use ahead::{ask, ask_start};
pub(crate) use cpu::threads_may_allocate;
pub use cpu::{Qos, performance_cores};
pub(crate) use fp::FpState;
pub(crate) use joined::JoinedPool;
pub use parts::{Cut, CutAt, Parts};
pub use team::Team;

use crate::error::{Error, Result};
use std::{fmt, sync::Arc, time::Duration};

/// The most threads a pool takes.
pub const MAX_THREADS: usize = 256;

/// A job system of the host: runs `job(i)` once for each `i < n` and returns after all have.
///
/// Jobs never wait for each other; any order and any number of threads will do.
pub trait HostJobs: Send + Sync {
    /// Runs the jobs.
    fn parallel_for(&self, n: u32, job: &(dyn Fn(u32) + Sync));
}

/// What a pool is made of.
#[derive(Clone, Default)]
pub struct ThreadPoolOptions {
    /// Threads, the caller's included; 0 takes [`performance_cores`].
    pub threads: usize,
    /// A hint to the system's scheduler.
    pub qos: Qos,
    /// How long a worker spins for the next phase before it parks; `None` is 50 microseconds.
    pub spin: Option<Duration>,
    /// Worker `i` is pinned to `cpus[i % len]`; empty leaves it to the system.
    pub cpus: Vec<u32>,
    /// The host's job system: no thread is started, `threads` is the number of jobs to cut into.
    pub host: Option<Arc<dyn HostJobs>>,
}

impl fmt::Debug for ThreadPoolOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadPoolOptions({} threads, host: {})", self.threads, self.host.is_some())
    }
}

/// Threads that contexts share; a clone is another reference.
#[derive(Clone)]
pub struct ThreadPool(Arc<Inner>);

struct Inner {
    threads: usize,
    spin: Duration,
    /// Threads that the cores run at one time.
    at_once: usize,
    kind: Kind,
}

enum Kind {
    /// The caller alone.
    Single,
    /// The caller and `threads - 1` of rayon's.
    Own(JoinedPool),
    Host(Arc<dyn HostJobs>),
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadPool({})", self.0.threads)
    }
}

impl ThreadPool {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] above [`MAX_THREADS`]; [`Error::Io`] if the system refuses a thread.
    pub fn new(options: &ThreadPoolOptions) -> Result<Self> {
        let threads = if options.threads == 0 { performance_cores() } else { options.threads };
        if threads > MAX_THREADS {
            return Err(Error::InvalidArgument(
                format!("{threads} threads, at most {MAX_THREADS} make sense").into(),
            ));
        }
        let kind = if let Some(host) = &options.host {
            Kind::Host(Arc::clone(host))
        } else if threads == 1 {
            Kind::Single
        } else {
            let (qos, cpus) = (options.qos, options.cpus.clone());
            let pool = JoinedPool::new(threads - 1, "tern", move |i| {
                cpu::set_qos(qos);
                if !cpus.is_empty() {
                    cpu::pin(cpus[i % cpus.len()]);
                }
            })?;
            Kind::Own(pool)
        };
        let spin = options.spin.unwrap_or(Duration::from_micros(50));
        let at_once =
            std::thread::available_parallelism().map_or(threads, |cores| threads.min(cores.get()));
        Ok(Self(Arc::new(Inner { threads, spin, at_once, kind })))
    }

    /// A pool of the calling thread alone.
    #[must_use]
    pub fn single() -> Self {
        Self(Arc::new(Inner { threads: 1, spin: Duration::ZERO, at_once: 1, kind: Kind::Single }))
    }

    /// How many parts work is cut into.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Gathers a team for the length of `f`, which runs on the calling thread.
    ///
    /// # Panics
    ///
    /// With the panic of `f` or of a job, after every worker has left.
    pub fn enter<R>(&self, f: impl FnOnce(&Team<'_>) -> R) -> R {
        let inner = &*self.0;
        match &inner.kind {
            Kind::Single => f(&Team::alone()),
            Kind::Host(host) => f(&Team::host(&**host, inner.threads)),
            Kind::Own(pool) => {
                let shared = team::Shared::new(inner.threads, inner.spin, inner.at_once);
                pool.in_place_scope(|scope| {
                    let team = Team::leader(&shared);
                    for slot in 1..inner.threads {
                        let shared = &shared;
                        scope.spawn(move |_| {
                            let _fp = FpState::set();
                            shared.work(slot);
                        });
                    }
                    f(&team)
                    // Dropping the team tells the workers to leave, also while unwinding.
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Serial;
    impl HostJobs for Serial {
        fn parallel_for(&self, n: u32, job: &(dyn Fn(u32) + Sync)) {
            (0..n).rev().for_each(job);
        }
    }

    fn pools() -> Vec<ThreadPool> {
        let mut pools = vec![ThreadPool::single()];
        for threads in [2, 3, 8] {
            pools.push(
                ThreadPool::new(&ThreadPoolOptions { threads, ..Default::default() })
                    .expect("threads"),
            );
        }
        let host =
            ThreadPoolOptions { threads: 4, host: Some(Arc::new(Serial)), ..Default::default() };
        pools.push(ThreadPool::new(&host).expect("host"));
        pools
    }

    #[test]
    fn every_part_is_done_once() {
        for pool in pools() {
            pool.enter(|team| {
                for phase in 0..300usize {
                    let parts = phase % 37;
                    let mut out = vec![0u32; parts * 3];
                    let mut slots = vec![0usize; team.threads()];
                    team.run_parts(
                        parts,
                        Cut::new(&mut out, 3),
                        Cut::none(),
                        &mut slots,
                        |i, out, (), slot| {
                            for (j, out) in out.iter_mut().enumerate() {
                                *out += (i * 3 + j) as u32;
                            }
                            *slot += 1;
                        },
                    );
                    assert_eq!(out, (0..parts as u32 * 3).collect::<Vec<_>>(), "{pool:?}");
                    assert_eq!(slots.iter().sum::<usize>(), parts, "{pool:?}");
                }
            });
        }
    }

    #[test]
    fn a_panicking_job_reaches_the_caller_and_the_pool_lives() {
        for pool in pools() {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.enter(|team| team.run(64, |i| assert!(i != 33, "job 33")));
            }));
            assert!(caught.is_err(), "{pool:?}");
            let done = AtomicUsize::new(0);
            pool.enter(|team| {
                team.run(64, |_| {
                    done.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert_eq!(done.into_inner(), 64, "{pool:?}");
        }
    }

    #[test]
    fn too_many_threads_are_refused() {
        assert!(
            ThreadPool::new(&ThreadPoolOptions { threads: 100_000, ..Default::default() }).is_err()
        );
    }

    #[test]
    fn own_parts_come_in_order_and_those_of_others_from_behind() {
        let ranges = ranges::Ranges::new(3);
        ranges.fill(8);
        let taken = |thread, n| (0..n).map(|_| ranges.take(thread)).collect::<Vec<_>>();
        assert_eq!(taken(1, 2), [Some(2), Some(3)]);
        assert_eq!(taken(1, 2), [Some(4), Some(7)], "its own, then the last of the next");
        assert_eq!(taken(0, 5), [Some(0), Some(1), Some(6), Some(5), None]);
        assert_eq!(taken(2, 1), [None]);
        ranges.fill(1);
        assert_eq!(taken(0, 2), [Some(0), None]);
        ranges.fill(0);
        assert_eq!(taken(2, 1), [None]);
        ranges.fill(6);
        assert_eq!(taken(4, 2), [Some(2), Some(3)], "the second thread of a range");
        assert_eq!(taken(1, 1), [Some(5)], "what is left of the next");
    }

    #[test]
    fn pieces_are_asked_for_one_after_another_and_once() {
        use ahead::{Ahead, LINE, LINES, MOST};
        let (ahead, bytes) = (Ahead::new(2), vec![0u8; 2 * MOST]);
        let asked = |thread| (0..).take_while(|_| ahead.ask(thread)).count();
        assert_eq!(asked(1), 0, "nothing was said");
        ahead.set(1, [&bytes[..10 * LINE], &[], &bytes[..5 * LINE]]);
        assert_eq!((asked(0), asked(1), asked(1)), (0, 3 + 2, 0));
        ahead.set(1, [&bytes, &[], &[]]);
        assert_eq!(asked(1), MOST / LINE / LINES as usize, "no more than a part of a cache");
        ahead.set(1, [&bytes, &bytes, &bytes]);
        assert!(ahead.ask(1));
        ahead.set(1, [&[], &[], &[]]);
        assert_eq!(asked(1), 0, "what was said last counts");
        assert!(!Ahead::new(0).ask(1), "threads that share cores");
    }
}
