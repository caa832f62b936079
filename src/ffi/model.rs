//! `tern_model_load_*`: a model from wherever its bytes are.

use super::{
    args::flags,
    boundary::{Call, callback},
    cancel::tern_cancel,
    error::{Failure, tern_error},
    handle::Shared,
    log::UserData,
    sized::layout,
    status::{TERN_OK, tern_progress_fn, tern_release_fn, tern_status},
};
use crate::{
    Cancel,
    error::Error,
    file::{OpenOptions, ReadAt, Source},
    model::{LoadOptions, Model, Packing},
};
use std::{
    ffi::{c_char, c_void},
    io,
};

/// A model: immutable, counted, for any number of threads.
pub type tern_model = Shared<Model>;

/// Vocabulary and metadata alone, no weights.
pub const TERN_MODEL_VOCAB_ONLY: u32 = 1;
/// Read the file into memory instead of mapping it.
pub const TERN_MODEL_NO_MMAP: u32 = 2;
/// Ask the system to keep mapped pages in memory.
pub const TERN_MODEL_MLOCK: u32 = 4;
/// Look at every value of the file.
pub const TERN_MODEL_VERIFY: u32 = 8;

/// How a model is loaded. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_model_params {
    pub size: usize,
    /// TERN_MODEL_*
    pub flags: u32,
    /// "scalar", "avx2", ... as in tern_system_info; NULL = the best that passes its check;
    /// unknown or not for this CPU: UNSUPPORTED
    pub kernels: *const c_char,
    pub kernels_len: usize,
    pub progress: tern_progress_fn,
    pub progress_user_data: *mut c_void,
    pub cancel: *const tern_cancel,
}
layout!(Sized tern_model_params {
    size, flags, kernels, kernels_len, progress, progress_user_data, cancel
});

/// Zeroes `params` and sets its size to `size`, which is sizeof *params.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_params_init(params: *mut tern_model_params, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(params, size));
}

/// Bytes that the host fetches: out of archives, encrypted files, assets.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_reader {
    pub size: usize,
    pub user_data: *mut c_void,
    /// bytes of the model
    pub length: u64,
    /// fills dst with all n bytes and returns non-zero, or returns 0; any thread, one at a time
    pub read_at: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            offset: u64,
            dst: *mut c_void,
            n: usize,
        ) -> i32,
    >,
    /// after the last read_at, also when the load fails; may be NULL
    pub close: tern_release_fn,
}
layout!(Sized tern_reader { size, user_data, length, read_at, close });

/// Zeroes `reader` and sets its size to `size`, which is sizeof *reader.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_reader_init(reader: *mut tern_reader, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(reader, size));
}

/// Calls the host's release or close once, when it is dropped.
pub(super) struct Release(pub(super) tern_release_fn, pub(super) UserData);

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(release) = self.0 {
            // SAFETY: the host's function with the host's pointer, once.
            callback(|| unsafe { release(self.1.get()) });
        }
    }
}

impl Release {
    /// The host's pointer, which lives until then.
    pub(super) fn user_data(&self) -> *mut c_void {
        self.1.get()
    }
}

/// Memory of the host, until its release is called.
struct Memory {
    data: *const u8,
    len: usize,
    _release: Release,
}

// SAFETY: the bytes are only read, and the release may run on any thread.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the conventions: `len` bytes at `data` stay there, unchanged, until the release.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// The host's reader.
struct Reader {
    reader: tern_reader,
    _close: Release,
}

// SAFETY: the conventions: `read_at` runs on any thread, one at a time.
unsafe impl Send for Reader {}

impl ReadAt for Reader {
    fn len(&self) -> u64 {
        self.reader.length
    }

    fn read_at(&self, offset: u64, dst: &mut [u8]) -> io::Result<()> {
        let read = self.reader.read_at.ok_or(io::ErrorKind::Unsupported)?;
        let (user_data, to) = (self.reader.user_data, dst.as_mut_ptr().cast());
        // SAFETY: the host's function with the host's pointer, and a place for all `n` bytes.
        let done = callback(|| unsafe { read(user_data, offset, to, dst.len()) });
        if done != 0 { Ok(()) } else { Err(io::Error::other("the reader's read_at returned 0")) }
    }
}

/// The options that C gave, but for progress and cancel.
pub(super) fn plain_load_options(
    call: &Call,
    params: &tern_model_params,
) -> Result<LoadOptions<'static>, Failure> {
    let known = TERN_MODEL_VOCAB_ONLY | TERN_MODEL_NO_MMAP | TERN_MODEL_MLOCK | TERN_MODEL_VERIFY;
    let set = flags(params.flags, known)?;
    let kernels = call.text_opt(params.kernels, params.kernels_len, "kernels")?;
    Ok(LoadOptions {
        vocab_only: set & TERN_MODEL_VOCAB_ONLY != 0,
        no_mmap: set & TERN_MODEL_NO_MMAP != 0,
        mlock: set & TERN_MODEL_MLOCK != 0,
        verify: set & TERN_MODEL_VERIFY != 0,
        kernels: kernels.map(str::to_owned),
        packing: Packing::default(),
        progress: None,
        cancel: None,
    })
}

/// Adds what every load shares: options in, one reference out.
fn load(
    call: &Call,
    params: *const tern_model_params,
    out_model: *mut *mut tern_model,
    source: impl FnOnce(&tern_model_params) -> Result<Source, Failure>,
) -> Result<tern_status, Failure> {
    let out = call.out(out_model, "out_model")?;
    let params = call.options(params)?;
    let plain = plain_load_options(call, &params)?;
    let cancel = call.hold_opt(params.cancel, "cancel")?.map(|cancel| Cancel::clone(&cancel));
    if cancel.as_ref().is_some_and(Cancel::is_set) {
        return Err(Error::Cancelled.into());
    }
    let user_data = params.progress_user_data;
    let mut progress = params.progress.map(|progress| {
        // SAFETY: the host's function with the host's pointer, within the call they were given to.
        move |fraction| callback(|| unsafe { progress(user_data, fraction) }) != 0
    });
    let options = LoadOptions {
        progress: progress.as_mut().map(|progress| progress as &mut dyn FnMut(f32) -> bool),
        cancel,
        ..plain
    };
    let model = Model::from_source(source(&params)?, options)?;
    out.write(Shared::give(model));
    Ok(TERN_OK)
}

/// Which part of a file, by the parameters of a load.
fn part(params: &tern_model_params, offset: u64, length: u64) -> OpenOptions {
    OpenOptions { offset, length, mmap: params.flags & TERN_MODEL_NO_MMAP == 0 }
}

/// Loads a model; *out_model is one reference, for tern_model_free. `params` NULL = all defaults. IO, BAD_MODEL,
/// UNSUPPORTED_MODEL, CANCELLED; the error names the place and the remedy. The file must not change while it is in
/// use, unless TERN_MODEL_NO_MMAP is set.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_model_load_from_file(
    path_utf8: *const c_char,
    params: *const tern_model_params,
    out_model: *mut *mut tern_model,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let path = call.path(path_utf8, "path_utf8")?;
        load(call, params, out_model, |params| Ok(Source::open(path, part(params, 0, 0))?))
    })
}

/// The same from an open file: fd is dup'ed and mapped, its position ignored. `offset` may be odd; `length` 0 = to
/// the end. Not a regular file: IO. Windows: UNSUPPORTED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_model_load_from_fd(
    fd: i32,
    offset: u64,
    length: u64,
    params: *const tern_model_params,
    out_model: *mut *mut tern_model,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        load(call, params, out_model, |params| open_fd(fd, part(params, offset, length)))
    })
}

#[cfg(unix)]
fn open_fd(fd: i32, options: OpenOptions) -> Result<Source, Failure> {
    if fd < 0 {
        return Err(Failure::invalid(format!("file descriptor {fd}")));
    }
    // SAFETY: the caller's descriptor, which is open for the length of the call; one that is not is refused by dup.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Ok(Source::open_fd(fd, options)?)
}

#[cfg(not(unix))]
fn open_fd(_: i32, _: OpenOptions) -> Result<Source, Failure> {
    Err(Failure::unsupported("file descriptors: use tern_model_load_from_handle on this system"))
}

/// The same for a Windows HANDLE, which is duplicated; Windows moves its position where bytes are read. Elsewhere
/// UNSUPPORTED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_model_load_from_handle(
    handle: *mut c_void,
    offset: u64,
    length: u64,
    params: *const tern_model_params,
    out_model: *mut *mut tern_model,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        load(call, params, out_model, |params| open_handle(handle, part(params, offset, length)))
    })
}

#[cfg(windows)]
fn open_handle(handle: *mut c_void, options: OpenOptions) -> Result<Source, Failure> {
    if handle.is_null() {
        return Err(Failure::invalid("handle is NULL"));
    }
    // SAFETY: the caller's handle, which is open for the length of the call.
    let handle = unsafe { std::os::windows::io::BorrowedHandle::borrow_raw(handle) };
    Ok(Source::open_handle(handle, options)?)
}

#[cfg(not(windows))]
fn open_handle(_: *mut c_void, _: OpenOptions) -> Result<Source, Failure> {
    Err(Failure::unsupported("handles: use tern_model_load_from_fd on this system"))
}

/// The same from memory. `release` NULL: what is needed is copied before the return. Else the bytes are borrowed,
/// without a copy, and must not change until release(user_data) is called: once, on any thread, also when the load
/// fails. data may be unaligned.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_model_load_from_memory(
    data: *const c_void,
    len: usize,
    release: tern_release_fn,
    user_data: *mut c_void,
    params: *const tern_model_params,
    out_model: *mut *mut tern_model,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    // Made first, so that it is called whatever comes.
    let release_now = Release(release, UserData(user_data));
    call.run_with(out_error, |call| {
        if data.is_null() {
            return Err(Failure::invalid("data is NULL"));
        }
        let bytes: &[u8] = call.array(data.cast(), len, "data")?;
        load(call, params, out_model, |_| {
            if release.is_none() {
                return Ok(Source::copy(bytes)?);
            }
            Ok(Source::from_memory(Memory { data: bytes.as_ptr(), len, _release: release_now }))
        })
    })
}

/// The same through callbacks: for archives, encrypted files and assets. The struct is copied. `close` is called
/// once, after the last read_at, on any thread, also when the load fails.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_model_load_from_reader(
    reader: *const tern_reader,
    params: *const tern_model_params,
    out_model: *mut *mut tern_model,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        if reader.is_null() {
            return Err(Failure::invalid("reader is NULL"));
        }
        let known = call.known(reader)?;
        // Made first, so that it is called whatever comes.
        let close = Release(known.close, UserData(known.user_data));
        let reader = call.options(reader)?;
        if reader.read_at.is_none() {
            return Err(Failure::invalid("reader->read_at is NULL"));
        }
        load(call, params, out_model, |_| Ok(Source::from_reader(Reader { reader, _close: close })))
    })
}

/// The same model, one reference more; NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_retain(model: *const tern_model) -> *mut tern_model {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.retain(model)
}

/// Releases one reference; NULL is fine. Contexts hold references of their own. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_model_free(model: *mut tern_model) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.release(model));
}
