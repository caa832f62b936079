//! `tern_model_convert`: the packed form of a model as a file.

use super::{
    args::flags,
    boundary::{Call, callback},
    cancel::tern_cancel,
    error::tern_error,
    model::tern_model,
    sized::layout,
    status::{TERN_OK, tern_progress_fn, tern_status},
};
use crate::Cancel;
use std::ffi::{c_char, c_void};

/// How a model is converted. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_convert_params {
    pub size: usize,
    /// none yet: 0
    pub flags: u32,
    pub progress: tern_progress_fn,
    pub progress_user_data: *mut c_void,
    pub cancel: *const tern_cancel,
}
layout!(Sized tern_convert_params { size, flags, progress, progress_user_data, cancel });

/// Zeroes `params` and sets its size to `size`, which is sizeof *params.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_convert_params_init(params: *mut tern_convert_params, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(params, size));
}

/// Writes the packed form of a model, from whatever source it came: a GGUF that maps in milliseconds and opens on every
/// CPU. Written beside dst and renamed, so an error or a cancel leaves dst as it was. A model loaded with
/// TERN_MODEL_VOCAB_ONLY: INVALID_STATE. IO when the disk is full. `params` NULL = all defaults.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_model_convert(
    model: *const tern_model,
    dst_path_utf8: *const c_char,
    params: *const tern_convert_params,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let model = call.hold(model, "model")?;
        let path = call.path(dst_path_utf8, "dst_path_utf8")?;
        let params = call.options(params)?;
        flags(params.flags, 0)?;
        let cancel = call.hold_opt(params.cancel, "cancel")?.map(|cancel| Cancel::clone(&cancel));
        let user_data = params.progress_user_data;
        let mut progress = params.progress.map(|progress| {
            // SAFETY: the host's function with the host's pointer, within the call they were given to.
            move |fraction| callback(|| unsafe { progress(user_data, fraction) }) != 0
        });
        let progress = progress.as_mut().map(|progress| progress as &mut dyn FnMut(f32) -> bool);
        model.convert(path, progress, cancel.as_ref())?;
        Ok(TERN_OK)
    })
}
