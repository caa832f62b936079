//! What stands around every export: no panic leaves, nothing is printed, the host's rounding mode comes back.

use super::{
    error::{Failure, tern_error},
    status::tern_status,
};
use crate::{
    error::Error,
    log::{self, Level},
    threads::FpState,
};
use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    ptr::NonNull,
    sync::Once,
    thread,
};

thread_local! {
    /// Exports that this thread is inside of, callbacks of the host not counted. A constant without a
    /// destructor, so that nothing is left to run when the thread ends.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// One call from C: the proof that its caller keeps the conventions of [the room](super).
///
/// Its methods turn what C gave into what Rust takes. What they borrow lives as long as the call.
pub(super) struct Call(());

impl Call {
    /// Begins a call.
    ///
    /// # Safety
    ///
    /// The arguments of the export are as [the room](super) asks: pointers that are not NULL point to what their
    /// type and the function's comment say, and stay valid and unchanged for the length of the call.
    pub(super) unsafe fn begin() -> Self {
        Call(())
    }

    /// Runs the body of an export and answers its status.
    pub(super) fn run(
        &self,
        body: impl FnOnce(&Self) -> Result<tern_status, Failure>,
    ) -> tern_status {
        guarded(|| body(self)).unwrap_or_else(|failure| {
            if failure.is_telling() {
                log::log(Level::Debug, || failure.to_string());
            }
            failure.status()
        })
    }

    /// The same for an export with an `out_error`, which may be NULL.
    pub(super) fn run_with(
        &self,
        out_error: *mut *mut tern_error,
        body: impl FnOnce(&Self) -> Result<tern_status, Failure>,
    ) -> tern_status {
        guarded(|| body(self)).unwrap_or_else(|failure| {
            let status = failure.status();
            if let Some(out) = NonNull::new(out_error) {
                let error = tern_error::give(failure);
                // SAFETY: `begin`'s caller gave NULL or a place for a pointer.
                unsafe { out.write(error) };
            }
            status
        })
    }

    /// Runs the body of an export that has no status.
    pub(super) fn quietly(&self, body: impl FnOnce(&Self)) {
        self.run(|call| {
            body(call);
            Ok(super::status::TERN_OK)
        });
    }
}

/// Catches what `body` panics with.
pub(super) fn guarded<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    install_hook();
    let _inside = Inside::enter(1);
    let _fp = FpState::set();
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = text_of(&*payload);
        log::log(Level::Error, || format!("internal error: {text}"));
        // A payload may panic in its own drop; it is ours alone, and small.
        std::mem::forget(payload);
        Err(Error::Panic(text).into())
    })
}

/// Runs a callback of the host: a panic in there is the host's affair, and so is what it prints.
pub(super) fn callback<T>(body: impl FnOnce() -> T) -> T {
    let _outside = Inside::enter(0);
    body()
}

/// Sets the depth, and gives the old one back.
struct Inside(u32);

impl Inside {
    fn enter(factor: u32) -> Self {
        DEPTH.with(|depth| {
            let before = depth.get();
            depth.set(before.saturating_add(1) * factor);
            Inside(before)
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(self.0));
    }
}

/// Puts a hook in front of the host's that is silent for panics which a boundary will catch: on threads inside
/// an export, and on tern's own threads, whose panics come out at the export that waits for them.
fn install_hook() {
    static ONCE: Once = Once::new();
    // A hook cannot be changed by a thread that unwinds; one of the next calls will do it.
    if ONCE.is_completed() || thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false)
                || thread::current().name().is_some_and(|name| name.starts_with("tern-"));
            if !ours {
                before(info);
            }
        }));
    });
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::status::{TERN_ERR_PANIC, TERN_OK};
    use std::{env, process::Command};

    fn call() -> Call {
        // SAFETY: no pointer is given.
        unsafe { Call::begin() }
    }

    #[test]
    fn a_panic_is_a_status_and_an_error() {
        let mut error = std::ptr::null_mut();
        let status = call().run_with(&raw mut error, |_| panic!("at the {}", "disco"));
        assert_eq!(status, TERN_ERR_PANIC);
        // SAFETY: written by the call above.
        let error = unsafe { Box::from_raw(error) };
        assert!(error.text().contains("at the disco"), "{}", error.text());
        assert_eq!(call().run(|_| Ok(TERN_OK)), TERN_OK);
        assert_eq!(call().run(|_| panic::panic_any(7)), TERN_ERR_PANIC);
    }

    /// Panics inside a boundary, on this thread and on one of tern's; the test below watches it from outside.
    #[test]
    #[ignore = "a process of its own: run by `a_caught_panic_prints_nothing`"]
    fn panics_in_a_process_of_its_own() {
        assert_eq!(call().run(|_| panic!("unheard")), TERN_ERR_PANIC);
        let status = call().run(|_| {
            let worker = thread::Builder::new().name("tern-test".into());
            let worker = worker.spawn(|| panic!("unheard as well")).expect("a thread");
            panic::resume_unwind(worker.join().expect_err("it panicked"));
        });
        assert_eq!(status, TERN_ERR_PANIC);
        if env::var_os("TERN_TEST_LOUD").is_some() {
            let loud = panic::catch_unwind(|| panic!("heard outside"));
            assert!(loud.is_err());
            let inner = || callback(|| panic!("heard in a callback"));
            assert_eq!(call().run(|_| inner()), TERN_ERR_PANIC);
        }
    }

    #[test]
    fn a_caught_panic_prints_nothing() {
        let run = |loud: bool| {
            let mut child = Command::new(env::current_exe().expect("the test program"));
            child.args(["--ignored", "--exact", "--nocapture"]);
            child.arg("ffi::boundary::tests::panics_in_a_process_of_its_own");
            if loud {
                child.env("TERN_TEST_LOUD", "1");
            }
            let output = child.output().expect("the test program runs");
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        assert_eq!(run(false), "");
        let loud = run(true);
        assert!(loud.contains("heard outside") && loud.contains("heard in a callback"), "{loud}");
        assert!(!loud.contains("unheard"), "{loud}");
    }

    #[test]
    fn a_panic_within_an_unwinding_host_is_caught_too() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert_eq!(call().run(|_| panic!("late")), TERN_ERR_PANIC);
            }
        }
        let unwound = panic::catch_unwind(|| {
            let _late = Late;
            panic::resume_unwind(Box::new(0));
        });
        assert!(unwound.is_err());
    }
}
