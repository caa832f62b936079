//! How a handle checks itself out under a model checker: thousands of interleavings of the real source.
//!
//! `src/ffi/handle.rs` is compiled here over shuttle's primitives instead of the system's. Values notice when two calls
//! are in them, and when they are dropped: while a call is in, twice, or never. (Shuttle explores orders of whole
//! steps; that the orderings named are strong enough is argued in the source.)

#![allow(dead_code, unreachable_pub)]

/// What the handles stand on, in the same places.
mod error {
    pub use tern::Error;
}

#[path = "../src/ffi"]
mod ffi {
    pub(crate) mod sync {
        pub(crate) use shuttle::sync::{
            Arc,
            atomic::{AtomicBool, AtomicU32, Ordering},
        };
    }

    /// The boundary itself is not under test.
    pub(crate) mod boundary {
        pub struct Call(());

        impl Call {
            pub fn begin() -> Self {
                Call(())
            }
        }
    }

    pub(crate) mod error {
        #[derive(Debug)]
        pub struct Failure(pub tern::Error);

        impl From<tern::Error> for Failure {
            fn from(error: tern::Error) -> Self {
                Failure(error)
            }
        }
    }

    pub(crate) mod handle;

    /// The room keeps its handles to itself, so the cases stand in it.
    mod cases {
        use super::{
            boundary::Call,
            error::Failure,
            handle::{Handle, Lent, Shared},
        };
        use shuttle::{
            sync::atomic::{AtomicBool, AtomicUsize, Ordering},
            thread,
        };
        use std::sync::Arc;
        use tern::Error;

        /// What is known of a value from outside.
        #[derive(Default)]
        struct Watch {
            writers: AtomicUsize,
            readers: AtomicUsize,
            drops: AtomicUsize,
            /// Calls that were let in, and that were not.
            fine: AtomicUsize,
            busy: AtomicUsize,
        }

        impl Watch {
            fn get(&self, of: impl Fn(&Self) -> &AtomicUsize) -> usize {
                of(self).load(Ordering::SeqCst)
            }
        }

        /// A value that notices misuse.
        struct Value(Arc<Watch>, usize);

        impl Value {
            /// Changes it, with the others free to run between any two steps.
            fn write(&mut self) {
                assert_eq!(
                    self.0.writers.fetch_add(1, Ordering::SeqCst),
                    0,
                    "two calls change the value"
                );
                let before = self.1;
                assert_eq!(self.0.get(|w| &w.readers), 0, "a call looks at what another changes");
                assert_eq!(self.0.get(|w| &w.drops), 0, "dropped with a call in it");
                self.1 = before + 1;
                self.0.writers.fetch_sub(1, Ordering::SeqCst);
            }

            /// Looks at it likewise.
            fn read(&self) {
                self.0.readers.fetch_add(1, Ordering::SeqCst);
                let before = self.1;
                assert_eq!(self.0.get(|w| &w.writers), 0, "a call changes what another looks at");
                assert_eq!(self.0.get(|w| &w.drops), 0, "dropped with a call in it");
                assert_eq!(self.1, before);
                self.0.readers.fetch_sub(1, Ordering::SeqCst);
            }
        }

        impl Drop for Value {
            fn drop(&mut self) {
                assert_eq!(self.0.drops.fetch_add(1, Ordering::SeqCst), 0, "dropped twice");
                let inside = self.0.get(|w| &w.writers) + self.0.get(|w| &w.readers);
                assert_eq!(inside, 0, "dropped with a call in it");
            }
        }

        /// C's pointer, which its threads pass around.
        struct Pointer<T>(*mut T);

        impl<T> Clone for Pointer<T> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<T> Copy for Pointer<T> {}
        // SAFETY: the handle behind it checks itself out, which is what is under test.
        unsafe impl<T> Send for Pointer<T> {}

        impl<T> Pointer<T> {
            fn get(self) -> *mut T {
                self.0
            }
        }

        fn watched() -> (Arc<Watch>, Pointer<Handle<Value>>) {
            let watch = Arc::new(Watch::default());
            let handle = Handle::give(Value(Arc::clone(&watch), 0));
            (watch, Pointer(handle))
        }

        fn refused(watch: &Watch, failure: &Failure) {
            assert!(matches!(failure.0, Error::Busy), "{failure:?}");
            watch.busy.fetch_add(1, Ordering::SeqCst);
        }

        /// One call that changes, or looks.
        fn one_call(watch: &Watch, handle: *mut Handle<Value>, exclusive: bool) {
            let call = Call::begin();
            if exclusive {
                match call.take(handle, "handle") {
                    Ok(mut value) => {
                        watch.fine.fetch_add(1, Ordering::SeqCst);
                        value.write();
                    }
                    Err(failure) => refused(watch, &failure),
                }
            } else {
                match call.look(handle, "handle") {
                    Ok(value) => {
                        watch.fine.fetch_add(1, Ordering::SeqCst);
                        value.read();
                    }
                    Err(failure) => refused(watch, &failure),
                }
            }
        }

        /// Outcomes that the explored orders must have shown, or they explored nothing.
        #[derive(Default)]
        struct Seen {
            all_fine: std::sync::atomic::AtomicUsize,
            some_busy: std::sync::atomic::AtomicUsize,
        }

        impl Seen {
            fn note(&self, watch: &Watch) {
                let which =
                    if watch.get(|w| &w.busy) == 0 { &self.all_fine } else { &self.some_busy };
                which.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }

            fn both(&self) {
                let count = |of: &std::sync::atomic::AtomicUsize| {
                    of.load(std::sync::atomic::Ordering::Relaxed)
                };
                let (fine, busy) = (count(&self.all_fine), count(&self.some_busy));
                assert!(fine > 0 && busy > 0, "{fine} orders without BUSY, {busy} with");
            }
        }

        /// Explores at random, and by orders with few but awkward switches.
        fn explore(f: impl Fn() + Send + Sync + 'static) {
            let f = Arc::new(f);
            let again = Arc::clone(&f);
            shuttle::check_random(move || f(), 3_000);
            shuttle::check_pct(move || again(), 2_000, 3);
        }

        #[test]
        fn one_call_changes_or_many_look_and_the_others_are_busy() {
            for kinds in [[true, true, true], [true, false, false], [true, true, false], [false; 3]]
            {
                let seen = Arc::new(Seen::default());
                let noted = Arc::clone(&seen);
                explore(move || {
                    let (watch, handle) = watched();
                    let threads = kinds.map(|exclusive| {
                        let watch = Arc::clone(&watch);
                        thread::spawn(move || {
                            for _ in 0..2 {
                                one_call(&watch, handle.get(), exclusive);
                            }
                        })
                    });
                    threads.into_iter().for_each(|thread| thread.join().expect("no misuse"));
                    let calls = watch.get(|w| &w.fine) + watch.get(|w| &w.busy);
                    assert_eq!(calls, 6, "every call is answered");
                    assert!(watch.get(|w| &w.fine) > 0, "somebody always gets in");
                    noted.note(&watch);
                    // Nobody is in: whatever happened, the handle is free again, and nothing was lost.
                    let call = Call::begin();
                    let changes = call.take(handle.get(), "handle").expect("free again").1;
                    let exclusive = kinds.iter().filter(|exclusive| **exclusive).count() * 2;
                    assert!(changes <= exclusive && changes + watch.get(|w| &w.busy) >= exclusive);
                    call.free(handle.get());
                    assert_eq!(watch.get(|w| &w.drops), 1);
                });
                if kinds == [false; 3] {
                    let busy = seen.some_busy.load(std::sync::atomic::Ordering::Relaxed);
                    assert_eq!(busy, 0, "calls that only look are never busy to each other");
                } else {
                    seen.both();
                }
            }
        }

        #[test]
        fn a_handle_freed_in_use_goes_with_the_last_call_and_once() {
            // Alone in the handle, or together with another that looks.
            for exclusive in [true, false] {
                let early = Arc::new(std::sync::atomic::AtomicUsize::new(0));
                let counted = Arc::clone(&early);
                explore(move || {
                    let (watch, handle) = watched();
                    let entered = Arc::new(AtomicUsize::new(0));
                    let users: Vec<_> = (0..if exclusive { 1 } else { 2 })
                        .map(|_| {
                            let (watch, entered) = (Arc::clone(&watch), Arc::clone(&entered));
                            thread::spawn(move || {
                                let call = Call::begin();
                                if exclusive {
                                    let mut value =
                                        call.take(handle.get(), "handle").expect("alone");
                                    entered.fetch_add(1, Ordering::SeqCst);
                                    value.write();
                                } else {
                                    let value =
                                        call.look(handle.get(), "handle").expect("only looks");
                                    entered.fetch_add(1, Ordering::SeqCst);
                                    value.read();
                                    value.read();
                                }
                                drop(watch);
                            })
                        })
                        .collect();
                    let finaliser = {
                        let (watch, entered) = (Arc::clone(&watch), Arc::clone(&entered));
                        let (all, counted) = (users.len(), Arc::clone(&counted));
                        thread::spawn(move || {
                            // A finaliser runs when no thread will begin a call any more.
                            while entered.load(Ordering::SeqCst) < all {
                                thread::yield_now();
                            }
                            Call::begin().free(handle.get());
                            if watch.get(|w| &w.drops) == 0 {
                                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            }
                        })
                    };
                    users.into_iter().for_each(|user| user.join().expect("no misuse"));
                    finaliser.join().expect("no misuse");
                    assert_eq!(watch.get(|w| &w.drops), 1, "dropped once, by whoever was last");
                });
                let early = early.load(std::sync::atomic::Ordering::Relaxed);
                assert!(early > 0 && early < 5_000, "freed in use in {early} of 5000 orders");
            }
        }

        #[test]
        fn two_frees_of_a_handle_in_use_release_it_once() {
            // A mistake of the host that is made while a call is in: harmless.
            explore(|| {
                let (watch, handle) = watched();
                let (entered, freed) =
                    (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
                let user = {
                    let (entered, freed) = (Arc::clone(&entered), Arc::clone(&freed));
                    thread::spawn(move || {
                        let call = Call::begin();
                        let mut value = call.take(handle.get(), "handle").expect("alone");
                        entered.store(true, Ordering::SeqCst);
                        value.write();
                        while freed.load(Ordering::SeqCst) < 2 {
                            thread::yield_now();
                        }
                        assert_eq!(value.0.get(|w| &w.drops), 0);
                    })
                };
                let frees = [(); 2].map(|()| {
                    let (entered, freed) = (Arc::clone(&entered), Arc::clone(&freed));
                    thread::spawn(move || {
                        while !entered.load(Ordering::SeqCst) {
                            thread::yield_now();
                        }
                        Call::begin().free(handle.get());
                        freed.fetch_add(1, Ordering::SeqCst);
                    })
                });
                user.join().expect("no misuse");
                frees.into_iter().for_each(|free| free.join().expect("no misuse"));
                assert_eq!(watch.get(|w| &w.drops), 1);
            });
        }

        #[test]
        fn a_freed_handle_lets_nobody_in() {
            // While one call is in a freed handle, whoever still calls is busy, and keeps nothing alive.
            explore(|| {
                let (watch, handle) = watched();
                let call = Call::begin();
                let value = call.look(handle.get(), "handle").expect("alone");
                call.free(handle.get());
                let late = [true, false].map(|exclusive| {
                    let watch = Arc::clone(&watch);
                    thread::spawn(move || one_call(&watch, handle.get(), exclusive))
                });
                late.into_iter().for_each(|late| late.join().expect("no misuse"));
                assert_eq!((watch.get(|w| &w.busy), watch.get(|w| &w.fine)), (2, 0));
                assert_eq!(watch.get(|w| &w.drops), 0);
                drop(value);
                assert_eq!(watch.get(|w| &w.drops), 1);
            });
        }

        #[test]
        fn a_lent_handle_goes_with_its_owner_or_the_last_call_in_it() {
            explore(|| {
                let watch = Arc::new(Watch::default());
                let lent = Lent::new(Value(Arc::clone(&watch), 0));
                let handle = Pointer(lent.get());
                let entered = Arc::new(AtomicBool::new(false));
                let user = {
                    let entered = Arc::clone(&entered);
                    thread::spawn(move || {
                        let call = Call::begin();
                        let mut value = call.take(handle.get(), "handle").expect("alone");
                        entered.store(true, Ordering::SeqCst);
                        value.write();
                    })
                };
                let owner = thread::spawn(move || {
                    // Freeing what is lent does nothing.
                    Call::begin().free(lent.get());
                    while !entered.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                    drop(lent);
                });
                user.join().expect("no misuse");
                owner.join().expect("no misuse");
                assert_eq!(watch.get(|w| &w.drops), 1);
            });
        }

        #[test]
        fn a_shared_value_lives_as_long_as_a_reference_or_a_call() {
            explore(|| {
                let watch = Arc::new(Watch::default());
                let shared = Shared::give(Value(Arc::clone(&watch), 0));
                let call = Call::begin();
                let threads = [(); 2].map(|()| {
                    // Each thread has a reference of its own, and gives it up.
                    let shared = Pointer(call.retain(shared));
                    thread::spawn(move || {
                        let call = Call::begin();
                        let held = call.hold(shared.get(), "shared").expect("not poisoned");
                        call.release(shared.get());
                        held.read();
                    })
                });
                call.release(shared);
                threads.into_iter().for_each(|thread| thread.join().expect("no misuse"));
                assert_eq!(watch.get(|w| &w.drops), 1);
            });
        }
    }
}
