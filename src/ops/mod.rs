//! The float steps between the ternary products, in the exact order of `docs/numerics.md`.
//!
//! Every function here is a *body*: plain Rust over slices, generic over how a
//! fused multiply-add is done, always inlined. `kernels` stamps the bodies into
//! one function per instruction set, where the compiler widens them; lanes and
//! order are fixed by the source, so every stamp gives the same bits.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod gather;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod rope;

/// Virtual lanes of every sum.
pub const LANES: usize = 16;

/// How `a * b + c` with one rounding is computed.
pub(crate) trait Fma {
    /// `a * b + c`, rounded once.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// The instruction, where the enclosing function enables it.
pub(crate) struct Hardware;

impl Fma for Hardware {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// Exact on every CPU: through f64, with the one double-rounding case mended.
#[cfg_attr(target_arch = "aarch64", allow(dead_code))]
pub(crate) struct Software;

impl Fma for Software {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        // The product is exact in f64 (48 bits). Rounding the sum to f64 and
        // then to f32 differs from one rounding only where the f64 lies exactly
        // half way between two f32, or where f32 is subnormal.
        let product = f64::from(a) * f64::from(b);
        let sum = product + f64::from(c);
        let halfway = sum.to_bits() & 0x1fff_ffff == 0x1000_0000;
        if halfway || sum.abs() < 1.2e-38 {
            round_once(product, f64::from(c), sum)
        } else {
            sum as f32
        }
    }
}

/// Rounds `product + c` to f32 once: the f64 sum is made odd where it is inexact.
#[cold]
fn round_once(product: f64, c: f64, sum: f64) -> f32 {
    if !sum.is_finite() {
        return sum as f32;
    }
    let tail = sum - product;
    let error = (product - (sum - tail)) + (c - tail);
    let bits = sum.to_bits();
    let odd = if error == 0.0 || bits & 1 == 1 {
        sum
    } else if sum == 0.0 {
        error
    } else if (error > 0.0) == (sum > 0.0) {
        f64::from_bits(bits + 1)
    } else {
        f64::from_bits(bits - 1)
    };
    odd as f32
}

/// Folds sixteen lanes into one value: 8, 4, 2, 1.
#[inline(always)]
pub(crate) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `S16 fma(a_i, b_i, lane)`.
#[inline(always)]
pub(crate) fn dot<F: Fma>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = a.len() - a.len() % LANES;
    for (a, b) in a[..whole].chunks_exact(LANES).zip(b[..whole].chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] = F::fma(a[lane], b[lane], lanes[lane]);
        }
    }
    for (lane, (a, b)) in a[whole..].iter().zip(&b[whole..]).enumerate() {
        lanes[lane] = F::fma(*a, *b, lanes[lane]);
    }
    fold(lanes)
}

#[cfg(test)]
#[allow(unsafe_code)] // to reach the instruction
mod tests {
    use super::*;

    /// What the CPU's instruction gives; the C library's function where there is none, which some libraries round twice.
    fn fused(a: f32, b: f32, c: f32) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("fma") {
            #[target_feature(enable = "fma")]
            fn instruction(a: f32, b: f32, c: f32) -> f32 {
                a.mul_add(b, c)
            }
            // SAFETY: the CPU has the instruction.
            return unsafe { instruction(a, b, c) };
        }
        a.mul_add(b, c)
    }

    #[test]
    fn software_fma_rounds_once() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut halfway = 0;
        for round in 0..2_000_000u32 {
            // Bit patterns at random, then pairs made so that sums nearly cancel or tie.
            let a = f32::from_bits(rng.u32(..));
            let b = f32::from_bits(rng.u32(..));
            let c = match round % 4 {
                0 => f32::from_bits(rng.u32(..)),
                1 => -(a * b),
                2 => a * b * f32::powi(2.0, rng.i32(-30..30)),
                _ => f32::from_bits(rng.u32(..) & 0x807f_ffff),
            };
            let (got, want) = (Software::fma(a, b, c), fused(a, b, c));
            halfway += u32::from(
                (f64::from(a) * f64::from(b) + f64::from(c)).to_bits() & 0x1fff_ffff == 0x1000_0000,
            );
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "fma({a:e}, {b:e}, {c:e}) = {got:e}, wanted {want:e}"
            );
        }
        assert!(halfway > 0, "the mended case was never met");
    }

    #[test]
    fn software_fma_mends_ties() {
        // c is one f32 ulp pattern below a tie that a tiny product breaks.
        for (a, b, c) in [
            (f32::from_bits(0x2000_0001), f32::from_bits(0x2000_0001), 1.0f32 + f32::EPSILON),
            (1.0 + f32::EPSILON, 1.0 + f32::EPSILON, f32::from_bits(0x3380_0000)),
            (1.0e-20, 1.0e-20, 1.0e-40),
            (-1.0e-20, 1.1e-20, 1.0e-44),
        ] {
            assert_eq!(
                Software::fma(a, b, c).to_bits(),
                fused(a, b, c).to_bits(),
                "{a:e} {b:e} {c:e}"
            );
        }
    }

    #[test]
    fn dot_keeps_the_tail_in_the_first_lanes() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        let b = vec![1.0; 19];
        assert_eq!(dot::<Software>(&a, &b), 171.0);
    }
}
