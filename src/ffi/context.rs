//! `tern_context_*`: what moves.

use super::{
    args::{flags, unknown},
    boundary::Call,
    error::{Failure, tern_error},
    handle::Handle,
    model::tern_model,
    sized::layout,
    status::{TERN_OK, tern_status},
    threadpool::tern_threadpool,
};
use crate::{
    context::{Context, ContextOptions, KvType, Pooling, Trim},
    error::Error,
    threads::ThreadPool,
};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

/// A context, and what the last call lent out.
pub struct Cell {
    context: Arc<RwLock<Context>>,
    pub(super) embedding: Vec<f32>,
}

impl Cell {
    pub(super) fn new(context: Arc<RwLock<Context>>) -> Self {
        Cell { context, embedding: Vec::new() }
    }

    /// The context to look at. BUSY if the session it belongs to is at work.
    pub(super) fn read(&self) -> Result<RwLockReadGuard<'_, Context>, Failure> {
        self.context.try_read().map_err(refusal)
    }

    /// The context to change.
    pub(super) fn write(&self) -> Result<RwLockWriteGuard<'_, Context>, Failure> {
        self.context.try_write().map_err(refusal)
    }
}

fn refusal<T>(error: TryLockError<T>) -> Failure {
    match error {
        TryLockError::WouldBlock => Error::Busy.into(),
        TryLockError::Poisoned(_) => Error::Poisoned.into(),
    }
}

/// Keys, values and scratch; one thread at a time.
pub type tern_context = Handle<Cell>;

/// Two bytes a value.
pub const TERN_KV_F16: i32 = 0;
/// One byte a value, and a step per position and head.
pub const TERN_KV_I8: i32 = 1;

/// The last token's state.
pub const TERN_POOL_LAST: i32 = 0;
/// The mean of all.
pub const TERN_POOL_MEAN: i32 = 1;

/// Keep the states that tern_embedding needs.
pub const TERN_CTX_EMBEDDINGS: u32 = 1;
/// Screen a large head by four bits, not six: sooner, and all but surely the same tokens.
pub const TERN_CTX_FAST_HEAD: u32 = 2;

/// How a context is made. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_context_params {
    pub size: usize,
    /// tokens per sequence; 0 = n_ctx_train
    pub n_ctx: u32,
    /// 0 = 1
    pub n_seq_max: u32,
    /// prefill slice in tokens, bounds scratch; 0 = tern's choice
    pub n_batch: u32,
    /// TERN_KV_*
    pub kv_type: i32,
    /// TERN_POOL_*, for TERN_CTX_EMBEDDINGS
    pub pooling: i32,
    /// TERN_CTX_*
    pub flags: u32,
    /// cap on the pages held, all sequences; 0 = none
    pub kv_bytes_max: u64,
    /// retained; NULL = a pool owned by the model
    pub threadpool: *const tern_threadpool,
}
layout!(Sized tern_context_params {
    size, n_ctx, n_seq_max, n_batch, kv_type, pooling, flags, kv_bytes_max, threadpool
});

/// Zeroes `params` and sets its size to `size`, which is sizeof *params.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_context_params_init(params: *mut tern_context_params, size: usize) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(params, size));
}

/// The options that C gave.
pub(super) fn options(
    call: &Call,
    params: *const tern_context_params,
) -> Result<ContextOptions, Failure> {
    let params = call.options(params)?;
    let set = flags(params.flags, TERN_CTX_EMBEDDINGS | TERN_CTX_FAST_HEAD)?;
    let pool = call.hold_opt(params.threadpool, "threadpool")?;
    Ok(ContextOptions {
        n_ctx: params.n_ctx as usize,
        n_seq_max: params.n_seq_max as usize,
        n_batch: params.n_batch as usize,
        kv_type: match params.kv_type {
            TERN_KV_F16 => KvType::F16,
            TERN_KV_I8 => KvType::I8,
            other => return Err(unknown("kv_type", other)),
        },
        pooling: match params.pooling {
            TERN_POOL_LAST => Pooling::Last,
            TERN_POOL_MEAN => Pooling::Mean,
            other => return Err(unknown("pooling", other)),
        },
        fast_head: set & TERN_CTX_FAST_HEAD != 0,
        embeddings: set & TERN_CTX_EMBEDDINGS != 0,
        kv_bytes_max: params.kv_bytes_max,
        pool: pool.map(|pool| ThreadPool::clone(&pool)),
    })
}

/// Makes a context without tokens; holds a reference to the model. Pages of keys and values are allocated as they
/// are used. `params` NULL = all defaults. INVALID_STATE for a model loaded with TERN_MODEL_VOCAB_ONLY.
/// Free it with tern_context_free.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_context_new(
    model: *const tern_model,
    params: *const tern_context_params,
    out_context: *mut *mut tern_context,
    out_error: *mut *mut tern_error,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run_with(out_error, |call| {
        let model = call.hold(model, "model")?;
        let out = call.out(out_context, "out_context")?;
        let context = Context::new(&model, options(call, params)?)?;
        out.write(Handle::give(Cell::new(Arc::new(RwLock::new(context)))));
        Ok(TERN_OK)
    })
}

/// Releases a context; NULL is fine. One in use is released by the call that uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_context_free(context: *mut tern_context) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.free(context));
}

/// Buffers, kept rows, spare pages.
pub const TERN_TRIM_SCRATCH: i32 = 0;
/// The pages of keys and values too.
pub const TERN_TRIM_KV: i32 = 1;

/// Gives memory back under pressure. After TERN_TRIM_KV sequences keep their tokens and the next eval computes them
/// again; until then state_save and prefix_save: INVALID_STATE. Mapped weights stay. A half-done eval is dropped.
/// out_freed: bytes; may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_context_trim(
    context: *mut tern_context,
    level: i32,
    out_freed: *mut u64,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let mut cell = call.take(context, "context")?;
        let level = match level {
            TERN_TRIM_SCRATCH => Trim::Scratch,
            TERN_TRIM_KV => Trim::Cache,
            other => return Err(unknown("level", other)),
        };
        let freed = cell.write()?.trim(level) + (cell.embedding.capacity() * 4) as u64;
        cell.embedding = Vec::new();
        if let Some(out) = call.out_opt(out_freed) {
            out.write(freed);
        }
        Ok(TERN_OK)
    })
}
