//! Messages for whoever wants them: silent unless a sink is set.
//!
//! The sink is the one thing of the library that belongs to the whole process.
//! It is never called under a lock; [`set`] returns when nobody is inside the
//! former one any more, so that what it stands on can go.

use std::{
    cell::Cell,
    ptr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

/// How grave a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details of calls that failed.
    Debug = 0,
    /// What happened.
    Info = 1,
    /// What works, but not as it should.
    Warn = 2,
    /// Bugs of this library.
    Error = 3,
}

/// Takes messages, on any thread, several at a time.
pub type Sink = dyn Fn(Level, &str) + Send + Sync;

struct Current {
    sink: Box<Sink>,
    /// The threads inside it.
    inside: Mutex<Vec<usize>>,
    left: Condvar,
}

static CURRENT: Mutex<Option<Arc<Current>>> = Mutex::new(None);
/// Least level that is wanted; above every level when there is no sink.
static MIN_LEVEL: AtomicI32 = AtomicI32::new(OFF);
const OFF: i32 = i32::MAX;

thread_local! {
    /// Whether this thread is inside a sink. Its address names the thread.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn this_thread() -> usize {
    INSIDE.with(|inside| ptr::from_ref(inside).addr())
}

/// Sets the process's sink and the least level it wants, or removes it.
///
/// When it returns, no thread is inside the former sink, save the calling one.
/// Messages that are logged from within a sink are dropped.
pub fn set(sink: Option<(i32, Box<Sink>)>) {
    let (level, sink) = sink.map_or((OFF, None), |(level, sink)| {
        let current = Current { sink, inside: Mutex::new(Vec::new()), left: Condvar::new() };
        (level, Some(Arc::new(current)))
    });
    let former = {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        MIN_LEVEL.store(level, Ordering::Relaxed);
        std::mem::replace(&mut *current, sink)
    };
    let Some(former) = former else { return };
    let me = this_thread();
    let mut inside = former.inside.lock().unwrap_or_else(PoisonError::into_inner);
    while inside.iter().any(|thread| *thread != me) {
        inside = former.left.wait(inside).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Logs a message, which is made only if it is wanted.
pub(crate) fn log(level: Level, text: impl FnOnce() -> String) {
    if (level as i32) < MIN_LEVEL.load(Ordering::Relaxed) || INSIDE.with(Cell::get) {
        return;
    }
    let entered = {
        let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|current| {
            // Under the lock of `CURRENT`: who removes the sink sees this thread in it.
            let mut inside = current.inside.lock().unwrap_or_else(PoisonError::into_inner);
            inside.push(this_thread());
            Arc::clone(current)
        })
    };
    let Some(current) = entered else { return };
    let _leave = Leave(&current);
    INSIDE.with(|inside| inside.set(true));
    (current.sink)(level, &text());
}

/// Says that this thread has left a sink, also when the sink panicked.
struct Leave<'a>(&'a Current);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.set(false));
        let mut inside = self.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let me = this_thread();
        if let Some(at) = inside.iter().position(|thread| *thread == me) {
            inside.swap_remove(at);
        }
        self.0.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            atomic::{AtomicBool, AtomicUsize},
            mpsc,
        },
        thread,
        time::Duration,
    };

    /// One test: the sink is the whole process's.
    #[test]
    fn the_former_sink_is_left_before_set_returns() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log_mine = |level, text: &str| log(level, || format!("mine: {text}"));
        let mine = |text: &str| text.starts_with("mine: ");
        let sink = {
            let seen = Arc::clone(&seen);
            move |level: Level, text: &str| {
                if mine(text) {
                    seen.lock().expect("unpoisoned").push((level, text.to_owned()));
                    log(Level::Error, || "mine: from within".into());
                }
            }
        };
        log_mine(Level::Error, "nobody hears");
        set(Some((Level::Warn as i32, Box::new(sink))));
        log_mine(Level::Info, "not wanted");
        log_mine(Level::Warn, "wanted");
        set(None);
        log_mine(Level::Error, "nobody hears");
        assert_eq!(*seen.lock().expect("unpoisoned"), [(Level::Warn, "mine: wanted".into())]);

        // A slow sink on another thread: `set` waits for it, and the sink itself may call `set`.
        let (entered, wait) = mpsc::channel();
        let (finished, removed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let slow = {
            let (finished, entered) = (Arc::clone(&finished), Mutex::new(entered));
            move |_: Level, text: &str| {
                if mine(text) {
                    entered.lock().expect("unpoisoned").send(()).expect("heard");
                    thread::sleep(Duration::from_millis(50));
                    finished.store(true, Ordering::SeqCst);
                }
            }
        };
        set(Some((0, Box::new(slow))));
        thread::scope(|scope| {
            scope.spawn(|| log_mine(Level::Debug, "slow"));
            wait.recv().expect("entered");
            set(None);
            assert!(finished.load(Ordering::SeqCst), "set returned while the sink ran");
        });
        let own = {
            let removed = Arc::clone(&removed);
            move |_: Level, text: &str| {
                if mine(text) {
                    set(None);
                    removed.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        set(Some((0, Box::new(own))));
        log_mine(Level::Error, "remove yourself");
        log_mine(Level::Error, "nobody hears");
        assert_eq!(removed.load(Ordering::SeqCst), 1);
    }
}
