//! A rayon pool whose threads are gone when it is.
//!
//! rayon tells its threads to leave and does not wait. A host that unloads the
//! library, or counts its threads, must not meet one that is still leaving.

use crate::error::{Error, Result};
use std::{
    ops::Deref,
    sync::Arc,
    thread::{self, JoinHandle},
};

/// Threads that are joined when the pool is dropped.
pub(crate) struct JoinedPool {
    /// There until the drop.
    pool: Option<rayon::ThreadPool>,
    threads: Threads,
}

/// Joined when they are dropped, also when a pool could not be built of them.
struct Threads(Vec<JoinHandle<()>>);

impl JoinedPool {
    /// Starts `count` threads called `name-0`, `name-1`, ...; each runs `start` with its number first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system refuses a thread; those that had started are gone.
    pub(crate) fn new(
        count: usize,
        name: &str,
        start: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Self> {
        let start = Arc::new(start);
        let mut threads = Threads(Vec::new());
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .spawn_handler(|thread| {
                let (i, start) = (thread.index(), Arc::clone(&start));
                let builder = thread::Builder::new().name(format!("{name}-{i}"));
                threads.0.push(builder.stack_size(2 << 20).spawn(move || {
                    start(i);
                    thread.run();
                })?);
                Ok(())
            })
            .build()
            .map_err(|error| Error::Io {
                what: format!("starting {count} threads"),
                source: std::io::Error::other(error),
            })?;
        Ok(Self { pool: Some(pool), threads })
    }
}

impl Deref for JoinedPool {
    type Target = rayon::ThreadPool;

    fn deref(&self) -> &rayon::ThreadPool {
        self.pool.as_ref().expect("there until the drop")
    }
}

impl Drop for JoinedPool {
    fn drop(&mut self) {
        // Tells the threads to leave.
        self.pool = None;
        self.threads.join();
    }
}

impl Threads {
    /// Waits for all, save the one that calls.
    fn join(&mut self) {
        let me = thread::current().id();
        for thread in self.0.drain(..).filter(|thread| thread.thread().id() != me) {
            // A panic of a thread came out where its work was waited for.
            let _ = thread.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_thread_outlives_its_pool() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        struct Leaves;
        impl Drop for Leaves {
            fn drop(&mut self) {
                thread::sleep(std::time::Duration::from_millis(5));
                RUNNING.fetch_sub(1, Ordering::SeqCst);
            }
        }
        thread_local! {
            static LEAVES: std::cell::RefCell<Option<Leaves>> = const { std::cell::RefCell::new(None) };
        }
        for count in [1, 3] {
            let pool = JoinedPool::new(count, "tern-test", |_| {
                RUNNING.fetch_add(1, Ordering::SeqCst);
                LEAVES.with(|leaves| *leaves.borrow_mut() = Some(Leaves));
            })
            .expect("threads");
            let sum: usize = pool.install(|| {
                let (a, b) = rayon::join(|| 1, || 2);
                a + b
            });
            assert_eq!(sum, 3);
            drop(pool);
            assert_eq!(RUNNING.load(Ordering::SeqCst), 0, "{count} threads");
        }
    }
}
