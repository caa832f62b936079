//! The floating-point control register: rounding to nearest, subnormals kept.
//!
//! Hosts set flush-to-zero for audio and games; results must not depend on it.

use std::arch::asm;

/// Holds the state that `docs/numerics.md` asks for, and gives the host's back when dropped.
pub(crate) struct FpState {
    host: u64,
}

/// MXCSR at reset: all exceptions masked, nearest, no flush to zero.
#[cfg(target_arch = "x86_64")]
const OURS: u64 = 0x1f80;
#[cfg(not(target_arch = "x86_64"))]
const OURS: u64 = 0;

impl FpState {
    /// Sets the state on this thread.
    pub(crate) fn set() -> Self {
        let host = read();
        if host != OURS {
            write(OURS);
        }
        Self { host }
    }
}

impl Drop for FpState {
    fn drop(&mut self) {
        if self.host != OURS {
            write(self.host);
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn read() -> u64 {
    let mut value = 0u32;
    // SAFETY: stores the 32-bit register into a local.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) }
    // The sticky exception flags are no state that matters.
    u64::from(value & !0x3f)
}

#[cfg(target_arch = "x86_64")]
fn write(value: u64) {
    let value = value as u32;
    // SAFETY: loads the register with a value that it held before, or with its reset value.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) }
}

#[cfg(target_arch = "aarch64")]
fn read() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

#[cfg(target_arch = "aarch64")]
fn write(value: u64) {
    // SAFETY: writes a value that the register held before, or its reset value.
    unsafe { asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> u64 {
    OURS
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_: u64) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flush_to_zero_is_lifted_and_given_back() {
        let before = read();
        #[cfg(target_arch = "x86_64")]
        let flushing = before | 0x8040;
        #[cfg(target_arch = "aarch64")]
        let flushing = before | 1 << 24;
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            write(flushing);
            {
                let _fp = FpState::set();
                let tiny = std::hint::black_box(f32::MIN_POSITIVE);
                assert!(tiny / 2.0 > 0.0, "subnormals are kept inside");
            }
            assert_eq!(read(), flushing, "the host's state comes back");
            write(before);
        }
    }
}
