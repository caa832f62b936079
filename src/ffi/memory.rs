//! `tern_memory_plan_for_file`: what a model and a context will take.

use super::{
    boundary::Call,
    context::{options, tern_context_params},
    error::tern_error,
    model::{plain_load_options, tern_model_params},
    sized::layout,
    status::{TERN_OK, tern_status},
};
use crate::context::MemoryPlan;
use std::ffi::c_char;

/// Bytes, by where they lie. Set its size with tern_memory_plan_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_memory_plan {
    pub size: usize,
    /// parts of the file that stay mapped: the system may drop and reread them
    pub weights_mapped: u64,
    /// packed weights and the vocabulary, in memory of their own
    pub weights_heap: u64,
    /// pages of keys and values with every sequence full, or kv_bytes_max
    pub kv: u64,
    /// buffers of a context
    pub scratch: u64,
}
layout!(Sized tern_memory_plan { size, weights_mapped, weights_heap, kv, scratch });

/// Zeroes `plan` and sets its size to `size`, which is sizeof *plan.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_memory_plan_init(plan: *mut tern_memory_plan, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(plan, size));
}

/// What load and context will take with every sequence full, or kv_bytes_max. Reads the header only. Both params may be
/// NULL = all defaults; progress and cancel of the model's are not used. Errors as tern_model_load_from_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_memory_plan_for_file(
    path_utf8: *const c_char,
    model_params: *const tern_model_params,
    context_params: *const tern_context_params,
    out_plan: *mut tern_memory_plan,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let path = call.path(path_utf8, "path_utf8")?;
        let out = call.out_struct(out_plan, "out_plan")?;
        let load = plain_load_options(call, &call.options(model_params)?)?;
        let plan = MemoryPlan::for_file(path, &load, options(call, context_params)?)?;
        out.write(&tern_memory_plan {
            size: 0,
            weights_mapped: plan.weights_mapped,
            weights_heap: plan.weights_heap,
            kv: plan.kv,
            scratch: plan.scratch,
        });
        Ok(TERN_OK)
    })
}
