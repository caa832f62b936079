//! The fork and join of a team under a model checker: thousands of interleavings of the real source.
//!
//! `src/threads/team.rs` and what it is made of are compiled here over shuttle's primitives instead of the system's.

#![allow(dead_code, unreachable_pub)]

#[path = "../src/threads"]
mod threads {
    pub(crate) mod sync {
        pub(crate) use shuttle::{
            hint::spin_loop,
            sync::{
                Condvar, Mutex,
                atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
            },
            thread::yield_now,
        };
    }

    /// The host's side is not under test.
    pub trait HostJobs: Send + Sync {
        fn parallel_for(&self, n: u32, job: &(dyn Fn(u32) + Sync));
    }

    pub(crate) struct FpState;

    impl FpState {
        pub(crate) fn set() -> Self {
            FpState
        }
    }

    mod ahead;
    pub(crate) mod parts;
    mod ranges;
    pub(crate) mod team;
}

use shuttle::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;
use threads::{
    parts::Cut,
    team::{Shared, Team},
};

/// Two phases on a leader and some workers; every part must be done exactly once, and everybody must leave.
fn two_phases(workers: usize, spin: Duration) {
    let shared = Arc::new(Shared::new(workers + 1, spin, workers + 1));
    let left = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (1..=workers)
        .map(|slot| {
            let (shared, left) = (Arc::clone(&shared), Arc::clone(&left));
            shuttle::thread::spawn(move || {
                shared.work(slot);
                left.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    {
        let team = Team::leader(&shared);
        for phase in 0..2u32 {
            let mut out = [0u32; 3];
            let mut slots = vec![0usize; workers + 1];
            // Who waits asks for this meanwhile.
            team.read_ahead(|_| [&[0; 300], &[], &[]]);
            team.run_parts(
                3,
                Cut::new(&mut out, 1),
                Cut::none(),
                &mut slots,
                |i, out, (), slot| {
                    out[0] += phase * 10 + i as u32 + 1;
                    *slot += 1;
                    shuttle::thread::yield_now();
                },
            );
            assert_eq!(out, [phase * 10 + 1, phase * 10 + 2, phase * 10 + 3]);
            assert_eq!(slots.iter().sum::<usize>(), 3);
        }
    }
    for handle in handles {
        handle.join().expect("a worker leaves");
    }
    assert_eq!(left.load(Ordering::SeqCst), workers);
}

#[test]
fn parts_are_done_once_and_workers_leave() {
    for workers in [1, 2] {
        // Parking at once, and never: the two ends of the spin.
        for spin in [Duration::ZERO, Duration::from_secs(3600)] {
            shuttle::check_random(move || two_phases(workers, spin), 2_000);
            shuttle::check_pct(move || two_phases(workers, spin), 1_000, 3);
        }
    }
}

#[test]
fn a_panicking_part_reaches_the_leader_and_nobody_stays() {
    shuttle::check_random(
        || {
            let shared = Arc::new(Shared::new(2, Duration::ZERO, 1));
            let worker = {
                let shared = Arc::clone(&shared);
                shuttle::thread::spawn(move || shared.work(1))
            };
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let team = Team::leader(&shared);
                // A payload without a panic hook's message: thousands of runs print nothing.
                team.run(4, |i| {
                    if i == 2 {
                        std::panic::resume_unwind(Box::new("part 2"))
                    }
                });
            }));
            assert!(caught.is_err());
            worker.join().expect("the worker leaves");
        },
        2_000,
    );
}
