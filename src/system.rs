//! What this build is, and what it runs on.

use crate::{kernels::Kernels, threads::performance_cores};
use serde_json::json;

/// The version as one number: `(major * 1000 + minor) * 1000 + patch`.
pub const VERSION_NUMBER: u32 = (number(env!("CARGO_PKG_VERSION_MAJOR")) * 1000
    + number(env!("CARGO_PKG_VERSION_MINOR")))
    * 1000
    + number(env!("CARGO_PKG_VERSION_PATCH"));

const fn number(text: &str) -> u32 {
    let (bytes, mut i, mut value) = (text.as_bytes(), 0, 0);
    while i < bytes.len() {
        value = value * 10 + (bytes[i] - b'0') as u32;
        i += 1;
    }
    value
}

/// Version, build, CPU and kernel tables as one JSON object.
#[must_use]
pub fn info() -> String {
    let tables: Vec<_> = Kernels::available().map(Kernels::name).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "version_number": VERSION_NUMBER,
        "build": {
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "debug_assertions": cfg!(debug_assertions),
            "unwinds": cfg!(panic = "unwind"),
        },
        "cpu": {
            "features": features(),
            "threads": std::thread::available_parallelism().map_or(1, usize::from),
            "performance_cores": performance_cores(),
        },
        "kernels": { "available": tables, "best": Kernels::best().name() },
    })
    .to_string()
}

/// The features of this CPU that decide which tables it runs, and their near relatives.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    macro_rules! detected {
        ($($name:tt),+) => { vec![$(($name, std::is_x86_feature_detected!($name))),+] };
    }
    #[cfg(target_arch = "aarch64")]
    macro_rules! detected {
        ($($name:tt),+) => { vec![$(($name, std::arch::is_aarch64_feature_detected!($name))),+] };
    }
    #[cfg(target_arch = "x86_64")]
    let all = detected!(
        "sse2",
        "sse4.1",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512vbmi"
    );
    #[cfg(target_arch = "aarch64")]
    let all = detected!("neon", "fp16", "dotprod", "i8mm", "sve", "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all: Vec<(&str, bool)> = Vec::new();
    all.into_iter().filter(|(_, found)| *found).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_json_that_names_the_tables() {
        let info: serde_json::Value = serde_json::from_str(&info()).expect("JSON");
        assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(info["kernels"]["available"][0], "scalar");
        assert_eq!(info["kernels"]["best"], Kernels::best().name());
    }
}
