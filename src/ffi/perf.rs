//! `tern_perf`: what a context did.

use super::{
    boundary::Call,
    context::tern_context,
    sized::layout,
    status::{TERN_OK, tern_status},
};

/// Counters of a context. Set its size with tern_perf_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_perf {
    pub size: usize,
    /// of the model
    pub load_us: u64,
    pub prefill_us: u64,
    pub decode_us: u64,
    pub sample_us: u64,
    /// from the first eval to the first sampled token
    pub first_token_us: u64,
    pub n_prefill: u64,
    /// tokens that needed no pass because they were in the cache
    pub n_prefill_reused: u64,
    pub n_decode: u64,
    pub n_drafted: u64,
    pub n_draft_accepted: u64,
    /// cache, scratch and kept rows together
    pub peak_heap_bytes: u64,
}
layout!(Sized tern_perf {
    size, load_us, prefill_us, decode_us, sample_us, first_token_us, n_prefill, n_prefill_reused, n_decode, n_drafted,
    n_draft_accepted, peak_heap_bytes
});

/// Zeroes `perf` and sets its size to `size`, which is sizeof *perf.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_perf_init(perf: *mut tern_perf, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(perf, size));
}

/// Fills *out_perf as far as its size goes: counts since the context was made or reset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_context_perf(
    context: *const tern_context,
    out_perf: *mut tern_perf,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.look(context, "context")?;
        let out = call.out_struct(out_perf, "out_perf")?;
        let context = cell.read()?;
        let perf = context.perf();
        out.write(&tern_perf {
            size: 0,
            load_us: context.model().load_us(),
            prefill_us: perf.prefill_us,
            decode_us: perf.decode_us,
            sample_us: perf.sample_us,
            first_token_us: perf.first_token_us,
            n_prefill: perf.n_prefill,
            n_prefill_reused: perf.n_prefill_reused,
            n_decode: perf.n_decode,
            n_drafted: perf.n_drafted,
            n_draft_accepted: perf.n_draft_accepted,
            peak_heap_bytes: perf.peak_heap_bytes,
        });
        Ok(TERN_OK)
    })
}

/// Sets the counters to zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_context_perf_reset(context: *mut tern_context) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let cell = call.take(context, "context")?;
        cell.write()?.reset_perf();
        Ok(TERN_OK)
    })
}
