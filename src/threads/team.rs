//! The fork and join of one phase.
//!
//! ```text
//! leader                               worker
//!   publish job, open phase g            wait for an open phase it has not seen (spin, then park)
//!   take parts until none is left        check in (count + 1 while open), take parts, check out
//!   close the phase
//!   wait until all who checked in are out
//! ```
//!
//! A worker that the system has not scheduled misses the phase and delays nobody:
//! with more threads than cores the leader does the work itself.

use super::{
    HostJobs,
    ahead::{Ahead, Pieces},
    parts::{Cut, Parts},
    ranges::{self, Alone, Ranges},
    sync::{
        AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering, spin_loop,
        yield_now,
    },
};
use std::{
    any::Any,
    time::{Duration, Instant},
};

/// One word of a phase: generation in the upper bits, then open, then how many workers are in.
const OPEN: u64 = 1 << 16;
const GENERATION: u64 = 1 << 17;
const COUNT: u64 = OPEN - 1;
/// The phase word of a team that dissolves.
const STOP: u64 = !OPEN;

type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// What the leader and the workers of one entry share.
pub(crate) struct Shared {
    threads: usize,
    spin: Duration,
    phase: Alone<AtomicU64>,
    out: Alone<AtomicU64>,
    ranges: Ranges,
    ahead: Ahead,
    parked: AtomicU32,
    /// Points to the leader's `&Job`, valid while the phase is open or somebody is in.
    job: AtomicPtr<&'static Job<'static>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Shared {
    /// `at_once`: how many of the threads the cores run at one time.
    pub(crate) fn new(threads: usize, spin: Duration, at_once: usize) -> Self {
        Self {
            threads,
            spin,
            phase: Alone(AtomicU64::new(0)),
            out: Alone(AtomicU64::new(0)),
            ranges: Ranges::new(at_once),
            ahead: Ahead::new(if at_once < threads { 0 } else { threads }),
            parked: AtomicU32::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            panic: Mutex::new(None),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// A worker's life within one entry.
    pub(crate) fn work(&self, slot: usize) {
        let mut seen = 0;
        loop {
            let word = self.next_phase(slot, seen);
            if word == STOP {
                return;
            }
            seen = word / GENERATION;
            // Checking in succeeds only while the phase is open with this very count.
            if self
                .phase
                .0
                .compare_exchange(word, word + 1, Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
            {
                // Somebody else came first, or the phase closed: look again.
                seen -= 1;
                continue;
            }
            let job = self.job.load(Ordering::Acquire);
            // SAFETY: this worker is checked in, so the leader has not left `lead`, where the job lives.
            let job: &Job<'_> = unsafe { *job };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(slot)));
            if let Err(payload) = result {
                *self.panic.lock().unwrap_or_else(|lock| lock.into_inner()) = Some(payload);
            }
            self.out.0.fetch_add(1, Ordering::Release);
        }
    }

    /// Waits for an open phase after `seen`, or for the end.
    fn next_phase(&self, slot: usize, seen: u64) -> u64 {
        let fresh = |word: u64| word == STOP || word & OPEN != 0 && word / GENERATION > seen;
        let mut turns = 0u32;
        let mut since = None;
        loop {
            let word = self.phase.0.load(Ordering::SeqCst);
            if fresh(word) {
                return word;
            }
            if self.ahead.ask(slot) {
                continue;
            }
            turns += 1;
            if !turns.is_multiple_of(64) {
                spin_loop();
                continue;
            }
            // A machine with more threads than cores gets its core back early.
            yield_now();
            if since.get_or_insert_with(Instant::now).elapsed() >= self.spin {
                self.park(seen);
                since = None;
            }
        }
    }

    fn park(&self, seen: u64) {
        let mut guard = self.sleep.lock().unwrap_or_else(|lock| lock.into_inner());
        self.parked.fetch_add(1, Ordering::SeqCst);
        loop {
            let word = self.phase.0.load(Ordering::SeqCst);
            if word == STOP || word & OPEN != 0 && word / GENERATION > seen {
                break;
            }
            guard = self.wake.wait(guard).unwrap_or_else(|lock| lock.into_inner());
        }
        self.parked.fetch_sub(1, Ordering::SeqCst);
    }

    fn publish(&self, word: u64) {
        self.phase.0.store(word, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) > 0 {
            drop(self.sleep.lock());
            self.wake.notify_all();
        }
    }

    /// Runs one phase: `job(slot)` on the leader and on every worker that comes in time.
    fn lead(&self, job: &Job<'_>) {
        /// Closes the phase and waits, also while the leader's own part unwinds.
        struct Close<'a>(&'a Shared);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                let inside = self.0.phase.0.fetch_and(!OPEN, Ordering::SeqCst) & COUNT;
                let mut turns = 0u32;
                while self.0.out.0.load(Ordering::Acquire) != inside {
                    if self.0.ahead.ask(0) {
                        continue;
                    }
                    turns += 1;
                    if turns.is_multiple_of(256) { yield_now() } else { spin_loop() }
                }
            }
        }
        // SAFETY: only the lifetime changes. `Close` below keeps this frame alive until no worker is in, and
        // no worker can come in after it closed the phase.
        let job: &'static Job<'static> =
            unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        let mut slot = job;
        self.job.store(&raw mut slot, Ordering::Release);
        self.out.0.store(0, Ordering::Relaxed);
        let generation = self.phase.0.load(Ordering::Relaxed) / GENERATION + 1;
        self.publish((generation * GENERATION) | OPEN);
        let close = Close(self);
        job(0);
        drop(close);
        let panic = self.panic.lock().unwrap_or_else(|lock| lock.into_inner()).take();
        if let Some(payload) = panic {
            std::panic::resume_unwind(payload);
        }
    }
}

/// The threads of one entry, as the leader sees them.
pub struct Team<'a>(Kind<'a>);

enum Kind<'a> {
    Alone,
    Leader(&'a Shared),
    Host(&'a dyn HostJobs, usize),
}

impl Drop for Team<'_> {
    fn drop(&mut self) {
        if let Kind::Leader(shared) = self.0 {
            shared.publish(STOP);
        }
    }
}

impl<'a> Team<'a> {
    pub(super) fn alone() -> Self {
        Team(Kind::Alone)
    }

    pub(crate) fn leader(shared: &'a Shared) -> Self {
        Team(Kind::Leader(shared))
    }

    pub(super) fn host(jobs: &'a dyn HostJobs, threads: usize) -> Self {
        Team(Kind::Host(jobs, threads))
    }

    /// Slots that may work at once.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self.0 {
            Kind::Alone => 1,
            Kind::Leader(shared) => shared.threads,
            Kind::Host(_, threads) => threads,
        }
    }

    /// Slots that the cores work on at once.
    pub(super) fn at_once(&self) -> usize {
        match self.0 {
            Kind::Leader(shared) => shared.ranges.count(),
            Kind::Alone | Kind::Host(..) => self.threads(),
        }
    }

    /// Whether threads take the parts of a phase in their order, none of them from a share of its own.
    pub(super) fn takes_in_order(&self) -> bool {
        matches!(self.0, Kind::Host(..))
    }

    /// Says what each thread reads in a phase to come: `of(slot)` is what it asks for while it waits, one piece after another.
    /// Any pieces will do: nothing is read.
    pub fn read_ahead<'b>(&self, of: impl Fn(usize) -> Pieces<'b>) {
        if let Kind::Leader(shared) = self.0 {
            (0..shared.ahead.threads()).for_each(|slot| shared.ahead.set(slot, of(slot)));
        }
    }

    /// The part of a phase that a thread takes first, of so many parts; of a [`stream`](Self::stream) the unit.
    #[must_use]
    pub fn first_part(&self, parts: usize, slot: usize) -> usize {
        ranges::first(parts, self.threads(), slot)
    }

    /// Runs `part(i, slot)` once for each `i < parts`. No two calls share a slot at one time.
    fn run_slots(&self, parts: usize, part: &(dyn Fn(usize, usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let job = |slot: usize| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= parts {
                    return;
                }
                part(i, slot);
            }
        };
        match self.0 {
            _ if parts <= 1 => job(0),
            Kind::Alone => job(0),
            Kind::Leader(shared) => {
                shared.ranges.fill(parts);
                shared.lead(&|slot| {
                    while let Some(i) = shared.ranges.take(slot) {
                        part(i, slot);
                    }
                });
            }
            Kind::Host(jobs, threads) => jobs.parallel_for(threads.min(parts) as u32, &|slot| {
                let _fp = super::FpState::set();
                job(slot as usize);
            }),
        }
    }

    /// Runs `part(i)` once for each `i < parts`.
    pub fn run(&self, parts: usize, part: impl Fn(usize) + Sync) {
        self.run_slots(parts, &|i, _| part(i));
    }

    /// Runs `part(i, a_i, b_i, scratch)` once for each `i < parts`: the `i`-th parts of `a` and `b`, and a
    /// scratch value that nobody else uses meanwhile.
    ///
    /// # Panics
    ///
    /// If `a` or `b` has fewer than `parts` parts, or `slots` fewer values than [`threads`](Self::threads).
    pub fn run_parts<A: Parts, B: Parts, S: Send>(
        &self,
        parts: usize,
        a: A,
        b: B,
        slots: &mut [S],
        part: impl Fn(usize, A::Part, B::Part, &mut S) + Sync,
    ) {
        assert!(a.parts() >= parts && b.parts() >= parts, "a part for every job");
        assert!(slots.len() >= self.threads(), "a scratch for every slot");
        let slots = Cut::new(slots, 1);
        self.run_slots(parts, &|i, slot| {
            // SAFETY: `i` is below `parts`, and each `i` is taken once.
            let a = unsafe { a.part(i) };
            // SAFETY: likewise.
            let b = unsafe { b.part(i) };
            // SAFETY: `slot` is below `threads`, and calls that share a slot follow each other.
            let scratch = unsafe { slots.part(slot) };
            part(i, a, b, &mut scratch[0]);
        });
    }
}
