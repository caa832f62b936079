//! Handles on one thread: in and out, poison, and freeing in use. `tests/handle_model.rs` has the threads.

use super::{
    boundary::Call,
    handle::{Handle, Shared},
    status::*,
};
use std::sync::atomic::{AtomicUsize, Ordering};

static DROPS: AtomicUsize = AtomicUsize::new(0);
struct Counted(u32);
impl Drop for Counted {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::Relaxed);
    }
}

fn call() -> Call {
    // SAFETY: the tests give pointers of `give` and free each once.
    unsafe { Call::begin() }
}

#[test]
fn a_handle_checks_out_and_in() {
    let handle = Handle::give(1u32);
    let call = call();
    let status = call.run(|call| {
        let mut taken = call.take(handle, "handle")?;
        *taken += 1;
        assert_eq!(call.run(|call| call.look(handle, "handle").map(|_| TERN_OK)), TERN_ERR_BUSY);
        assert_eq!(call.run(|call| call.take(handle, "handle").map(|_| TERN_OK)), TERN_ERR_BUSY);
        Ok(TERN_OK)
    });
    assert_eq!(status, TERN_OK);
    let status = call.run(|call| {
        let (a, b) = (call.look(handle, "handle")?, call.look(handle, "handle")?);
        assert_eq!((*a, *b), (2, 2));
        assert_eq!(call.run(|call| call.take(handle, "handle").map(|_| TERN_OK)), TERN_ERR_BUSY);
        Ok(TERN_OK)
    });
    assert_eq!(status, TERN_OK);
    call.free(handle);
    assert_eq!(
        call.run(|call| call.look::<u32>(std::ptr::null(), "handle").map(|_| TERN_OK)),
        TERN_ERR_INVALID_ARGUMENT
    );
}

#[test]
fn a_panic_poisons_and_free_works() {
    let handle = Handle::give(String::from("half"));
    let call = call();
    let status = call.run(|call| {
        let _taken = call.take(handle, "handle")?;
        panic!("in the middle")
    });
    assert_eq!(status, TERN_ERR_PANIC);
    assert_eq!(call.run(|call| call.look(handle, "h").map(|_| TERN_OK)), TERN_ERR_POISONED);
    assert_eq!(call.run(|call| call.take(handle, "h").map(|_| TERN_OK)), TERN_ERR_POISONED);
    call.free(handle);
    let shared = Shared::give(3u8);
    let status = call.run(|call| {
        let _held = call.hold(shared, "shared")?;
        panic!("once more")
    });
    assert_eq!(status, TERN_ERR_PANIC);
    assert_eq!(call.run(|call| call.hold(shared, "s").map(|_| TERN_OK)), TERN_ERR_POISONED);
    call.release(shared);
}

#[test]
fn a_handle_freed_in_use_goes_with_the_last_call() {
    let before = DROPS.load(Ordering::Relaxed);
    let dropped = || DROPS.load(Ordering::Relaxed) - before;
    let call = call();
    let handle = Handle::give(Counted(5));
    let status = call.run(|call| {
        let taken = call.take(handle, "handle")?;
        call.free(handle);
        call.free(handle); // a second one while in use is harmless
        assert_eq!((taken.0, dropped()), (5, 0));
        Ok(TERN_OK)
    });
    assert_eq!((status, dropped()), (TERN_OK, 1));
    let handle = Handle::give(Counted(6));
    let status = call.run(|call| {
        let (a, b) = (call.look(handle, "handle")?, call.look(handle, "handle")?);
        call.free(handle);
        drop(a);
        assert_eq!((b.0, dropped()), (6, 1));
        Ok(TERN_OK)
    });
    assert_eq!((status, dropped()), (TERN_OK, 2));
    let shared = Shared::give(Counted(7));
    assert_eq!(call.retain(shared), shared);
    let status = call.run(|call| {
        let held = call.hold(shared, "shared")?;
        call.release(shared);
        call.release(shared);
        assert_eq!((held.0, dropped()), (7, 2));
        Ok(TERN_OK)
    });
    assert_eq!((status, dropped()), (TERN_OK, 3));
}
