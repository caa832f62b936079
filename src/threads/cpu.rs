//! What the system tells of its cores, and what it can be asked of its threads.

/// How urgent the work is: a hint to the scheduler, from energy to latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Qos {
    /// As the system treats any thread.
    #[default]
    Default,
    /// Nobody waits for it.
    Background,
    /// Somebody will look later.
    Utility,
    /// Somebody waits now.
    Interactive,
}

/// Physical cores of the fastest kind that this process may use: the default number of threads.
#[must_use]
pub fn performance_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    fast_cores().map_or(allowed, |fast| fast.clamp(1, allowed))
}

/// Whether any thread gets small blocks of memory as cheaply as another. Where a process's address space is limited,
/// glibc may find no room for a thread's heap, and then every small block of that thread takes a page.
pub(crate) fn threads_may_allocate() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut lines = limits.lines().filter_map(|line| line.strip_prefix("Max address space"));
    lines.any(|line| line.trim_start().starts_with("unlimited"))
}

/// Of the allowed CPUs, those of the highest capacity, one for each core.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn fast_cores() -> Option<usize> {
    use std::{collections::BTreeSet, fs};
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = BTreeSet::new();
    let mut best = 0u64;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        for cpu in first.parse::<u32>().ok()?..=last.parse::<u32>().ok()? {
            let read = |file: &str| {
                fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/{file}")).ok()
            };
            let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
            let speed =
                number("cpu_capacity").or_else(|| number("cpufreq/cpuinfo_max_freq")).unwrap_or(0);
            let core = read("topology/thread_siblings_list").unwrap_or_else(|| cpu.to_string());
            if speed > best {
                best = speed;
                cores.clear();
            }
            if speed == best {
                cores.insert(core);
            }
        }
    }
    Some(cores.len()).filter(|count| *count > 0)
}

#[cfg(target_vendor = "apple")]
fn fast_cores() -> Option<usize> {
    let mut count = 0i32;
    let mut size = size_of::<i32>();
    // SAFETY: the name is NUL-terminated and the output is an i32 of the stated size.
    let result = unsafe {
        libc::sysctlbyname(
            c"hw.perflevel0.physicalcpu".as_ptr(),
            (&raw mut count).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    (result == 0 && count > 0).then_some(count as usize)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn fast_cores() -> Option<usize> {
    None
}

/// Asks for a service class on the calling thread; a system without them ignores it.
pub(super) fn set_qos(qos: Qos) {
    #[cfg(target_vendor = "apple")]
    {
        let class = match qos {
            Qos::Default => return,
            Qos::Background => libc::qos_class_t::QOS_CLASS_BACKGROUND,
            Qos::Utility => libc::qos_class_t::QOS_CLASS_UTILITY,
            Qos::Interactive => libc::qos_class_t::QOS_CLASS_USER_INTERACTIVE,
        };
        // SAFETY: changes the calling thread alone.
        unsafe { libc::pthread_set_qos_class_self_np(class, 0) };
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let nice = match qos {
            Qos::Default | Qos::Interactive => return,
            Qos::Utility => 5,
            Qos::Background => 15,
        };
        // SAFETY: 0 means the calling thread on Linux.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    }
    #[cfg(not(any(target_vendor = "apple", target_os = "linux", target_os = "android")))]
    let _ = qos;
}

/// Pins the calling thread to one CPU, where the system allows it.
pub(super) fn pin(cpu: u32) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let mut set: libc::cpu_set_t = {
            // SAFETY: a set of bits, for which zeros are a value.
            unsafe { std::mem::zeroed() }
        };
        if (cpu as usize) < libc::CPU_SETSIZE as usize {
            // SAFETY: the index is within the set.
            unsafe { libc::CPU_SET(cpu as usize, &mut set) };
            // SAFETY: 0 means the calling thread; the set is a live local of the stated size.
            unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = cpu;
}
