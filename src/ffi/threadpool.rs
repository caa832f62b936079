//! `tern_threadpool_*`: threads that contexts share, or the host's own job system.

use super::{
    args::unknown,
    boundary::{Call, callback, guarded},
    handle::Shared,
    log::UserData,
    sized::layout,
    status::{TERN_OK, tern_status},
};
use crate::threads::{HostJobs, Qos, ThreadPool, ThreadPoolOptions};
use std::{
    ffi::c_void,
    ptr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Threads that contexts share.
pub type tern_threadpool = Shared<ThreadPool>;

/// As the system treats any thread.
pub const TERN_QOS_DEFAULT: i32 = 0;
/// Nobody waits for it.
pub const TERN_QOS_BACKGROUND: i32 = 1;
/// Somebody will look later.
pub const TERN_QOS_UTILITY: i32 = 2;
/// Somebody waits.
pub const TERN_QOS_INTERACTIVE: i32 = 3;

/// One job of many: does part i.
pub type tern_job_fn = Option<unsafe extern "C" fn(arg: *mut c_void, i: u32)>;
/// Host job system. Run job(arg, i) once for each i < n, in any order, on any number of threads, the caller's
/// included, and return after all have. Jobs are independent and never wait for each other. job and arg end with
/// the call.
pub type tern_parallel_for_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, n: u32, job: tern_job_fn, arg: *mut c_void),
>;

/// How threads are started. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tern_threadpool_params {
    /// = sizeof: first member of every struct that grows
    pub size: usize,
    /// 0 = performance cores; at most 256
    pub n_threads: u32,
    /// TERN_QOS_*
    pub qos: i32,
    /// at a join, before parking; 0 = tern's choice, -1 = never
    pub spin_us: i32,
    /// worker i is pinned to cpus[i % n_cpus]; copied; NULL = left to the system
    pub cpus: *const u32,
    pub n_cpus: usize,
    /// set: tern starts no thread of its own, n_threads = jobs to cut into
    pub parallel_for: tern_parallel_for_fn,
    /// must outlive the pool
    pub parallel_for_user_data: *mut c_void,
}
layout!(Sized tern_threadpool_params {
    size, n_threads, qos, spin_us, cpus, n_cpus, parallel_for, parallel_for_user_data
});

/// Zeroes `params` and sets its size to `size`, which is sizeof *params.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_threadpool_params_init(
    params: *mut tern_threadpool_params,
    size: usize,
) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.init(params, size));
}

/// Starts threads that contexts may share. `params` NULL = all defaults. IO if the system starts none.
/// Free it with tern_threadpool_free.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn tern_threadpool_new(
    params: *const tern_threadpool_params,
    out_threadpool: *mut *mut tern_threadpool,
) -> tern_status {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.run(|call| {
        let out = call.out(out_threadpool, "out_threadpool")?;
        let params = call.options(params)?;
        let host = params.parallel_for.map(|parallel_for| {
            let user_data = UserData(params.parallel_for_user_data);
            Arc::new(Host { parallel_for, user_data }) as Arc<dyn HostJobs>
        });
        let cpus = if params.cpus.is_null() {
            &[]
        } else {
            call.array(params.cpus, params.n_cpus, "cpus")?
        };
        let options = ThreadPoolOptions {
            threads: params.n_threads as usize,
            qos: qos(params.qos)?,
            spin: match params.spin_us {
                0 => None,
                us => Some(Duration::from_micros(u64::try_from(us).unwrap_or(0))),
            },
            cpus: cpus.to_vec(),
            host,
        };
        out.write(Shared::give(ThreadPool::new(&options)?));
        Ok(TERN_OK)
    })
}

/// Releases a pool; NULL is fine. Its threads are joined with the last context that uses it. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tern_threadpool_free(threadpool: *mut tern_threadpool) {
    // SAFETY: the room's contract.
    let call = unsafe { Call::begin() };
    call.quietly(|call| call.release(threadpool));
}

fn qos(value: i32) -> Result<Qos, super::error::Failure> {
    Ok(match value {
        TERN_QOS_DEFAULT => Qos::Default,
        TERN_QOS_BACKGROUND => Qos::Background,
        TERN_QOS_UTILITY => Qos::Utility,
        TERN_QOS_INTERACTIVE => Qos::Interactive,
        _ => return Err(unknown("qos", value)),
    })
}

/// The host's job system.
struct Host {
    parallel_for:
        unsafe extern "C" fn(user_data: *mut c_void, n: u32, job: tern_job_fn, arg: *mut c_void),
    user_data: UserData,
}

/// What a job of the host's system does, and what became of it.
struct Work<'a> {
    job: &'a (dyn Fn(u32) + Sync),
    failure: Mutex<Option<String>>,
}

/// One job on a thread of the host: no panic may cross into its system.
unsafe extern "C" fn run_job(arg: *mut c_void, i: u32) {
    // SAFETY: `arg` is the `Work` of the `parallel_for` that is running.
    let work = unsafe { &*arg.cast::<Work<'_>>() };
    let done = guarded(|| {
        (work.job)(i);
        Ok(())
    });
    if let Err(failure) = done {
        let mut first = work.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| failure.to_string());
    }
}

impl HostJobs for Host {
    fn parallel_for(&self, n: u32, job: &(dyn Fn(u32) + Sync)) {
        let work = Work { job, failure: Mutex::new(None) };
        let arg = ptr::from_ref(&work).cast_mut().cast();
        // SAFETY: the host's function with the host's pointer; `work` lives until it has returned.
        callback(|| unsafe { (self.parallel_for)(self.user_data.get(), n, Some(run_job), arg) });
        let failure = work.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failure {
            // On to the boundary of the call that computes: it answers, and poisons.
            panic!("a job failed: {failure}");
        }
    }
}
