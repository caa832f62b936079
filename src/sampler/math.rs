//! Exponential, logarithm and softmax whose bits are the same on every system.
//!
//! A system's `exp` and `ln` differ in the last bit from one C library to the
//! next, and one bit is enough to choose another token. Everything here uses
//! only `+ - * /` on f64, which IEEE 754 fixes, and bit operations. Rust never
//! fuses a multiply with an add on its own, and never reorders a sum.

/// Sums keep this many partial sums, element `i` in lane `i % LANES`, added
/// pairwise at the end: a fixed order that still fills a vector register.
const LANES: usize = 8;

/// ln 2 in two parts; the first has 21 zero bits at its end, so that `k * LN2_HI` is exact.
const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LO: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// Adding 1.5 * 2^52 leaves the nearest integer in the low bits of an f64.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// e to the power `x`, within 2 ulp for -708 <= x <= 709.
///
/// Below -708, and for NaN, the answer is 0; above 709 it is `exp(709)`.
#[inline]
pub(crate) fn exp(x: f64) -> f64 {
    // Both selects are branchless, so that a loop over this vectorises.
    let inside = x >= -708.0;
    let x = if inside { x } else { 0.0 };
    let x = if x < 709.0 { x } else { 709.0 };
    // x = k ln 2 + r with |r| <= ln 2 / 2.
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HI) - k * LN2_LO;
    // Taylor to r^13: the next term is below 0.3466^14 / 14! = 4.2e-18.
    let mut p = 1.0 / 6_227_020_800.0;
    for c in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ] {
        p = p * r + c;
    }
    let y = 1.0 + (r + r * r * p);
    // y lies in [0.7, 1.42] and |k| <= 1023, so adding k to its exponent gives
    // a normal number.
    let y = f64::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 52));
    if inside { y } else { 0.0 }
}

/// Natural logarithm of a positive number, within 2 ulp away from 1 and 2e-16 absolute near it.
///
/// 0 gives minus infinity, infinity gives infinity; negative numbers and NaN give NaN.
#[inline]
pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // A subnormal is scaled by 2^54 first, so that its exponent field means something.
    let (x, bias) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, 54) } else { (x, 0) };
    // x = m 2^k with m in [sqrt(1/2), sqrt(2)): the bits of sqrt(1/2) are taken
    // off before the exponent is read and given back to the mantissa after.
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let shifted = x.to_bits().wrapping_sub(SQRT_HALF);
    let k = ((shifted as i64) >> 52) as i32;
    let m = f64::from_bits(x.to_bits().wrapping_sub((k as i64 as u64) << 52));
    // ln m = 2 atanh(s) with |s| <= 0.1716; the first term left out is below 1e-20.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 25.0;
    for c in [
        1.0 / 23.0,
        1.0 / 21.0,
        1.0 / 19.0,
        1.0 / 17.0,
        1.0 / 15.0,
        1.0 / 13.0,
        1.0 / 11.0,
        1.0 / 9.0,
        1.0 / 7.0,
        1.0 / 5.0,
        1.0 / 3.0,
    ] {
        p = p * z + c;
    }
    let k = f64::from(k - bias);
    k * LN2_HI + (k * LN2_LO + (2.0 * s + 2.0 * s * z * p))
}

/// Logarithm to base 2, as [`ln`].
#[inline]
pub(crate) fn log2(x: f64) -> f64 {
    ln(x) * std::f64::consts::LOG2_E
}

/// `x` to the power `y` for `x >= 0` and finite `y >= 0`; 0 to the power 0 is 1.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    if y == 0.0 {
        1.0
    } else if x == 0.0 {
        0.0
    } else {
        exp(y * ln(x))
    }
}

/// `x` to a whole power, by squaring.
pub(crate) fn powi(x: f64, n: u32) -> f64 {
    let (mut result, mut square, mut n) = (1.0, x, n);
    while n > 0 {
        if n & 1 == 1 {
            result *= square;
        }
        square *= square;
        n >>= 1;
    }
    result
}

/// A logit as it is compared and summed: NaN is minus infinity, plus infinity
/// the largest number, and zero has no sign.
///
/// On cleaned logits `>` is a total order, and differences with a finite
/// maximum are never NaN.
#[inline]
pub(crate) fn clean(logit: f32) -> f32 {
    // Adding zero turns -0.0 into 0.0; NaN fails the comparison.
    let logit = logit + 0.0;
    let logit = if logit >= f32::NEG_INFINITY { logit } else { f32::NEG_INFINITY };
    if logit <= f32::MAX { logit } else { f32::MAX }
}

/// The largest cleaned logit; minus infinity if there is none.
pub(crate) fn max(logits: impl Iterator<Item = f32>) -> f32 {
    logits.map(clean).fold(f32::NEG_INFINITY, |max, logit| if logit > max { logit } else { max })
}

/// The sum of `exp(logit - max)` over cleaned logits.
pub(crate) fn sum_exp(logits: impl Iterator<Item = f32>, max: f32) -> f64 {
    let mut lanes = [0.0; LANES];
    for (i, logit) in logits.enumerate() {
        lanes[i % LANES] += exp(f64::from(clean(logit)) - f64::from(max));
    }
    sum_lanes(lanes)
}

/// Adds the partial sums pairwise.
pub(crate) fn sum_lanes(l: [f64; LANES]) -> f64 {
    ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in units of the last place of `want`.
    fn ulp(got: f64, want: f64) -> f64 {
        let unit = f64::from_bits(want.abs().to_bits() + 1) - want.abs();
        (got - want).abs() / unit
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut rng = fastrand::Rng::with_seed(11);
        for i in 0..400_000 {
            let x = match i % 3 {
                0 => rng.f64() * 1417.0 - 708.0,
                1 => rng.f64() * -40.0,
                _ => (rng.f64() - 0.5) * 1e-3,
            };
            assert!(ulp(exp(x), x.exp()) <= 2.0, "exp({x}) = {:e}, want {:e}", exp(x), x.exp());
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(-709.0), 0.0);
        assert_eq!(exp(f64::NAN), 0.0);
        assert_eq!(exp(f64::INFINITY), exp(709.0));
    }

    #[test]
    fn ln_is_within_its_bound() {
        let mut rng = fastrand::Rng::with_seed(12);
        for i in 0..400_000 {
            let x = match i % 4 {
                0 => f64::from_bits(rng.u64(1..0x7ff0_0000_0000_0000)),
                1 => rng.f64() + f64::MIN_POSITIVE,
                2 => 1.0 + (rng.f64() - 0.5) * 1e-6,
                _ => rng.f64() * 4.0 + 1e-300,
            };
            let (got, want) = (ln(x), x.ln());
            assert!(
                ulp(got, want) <= 2.0 || (got - want).abs() <= 2e-16,
                "ln({x:e}) = {got:e}, want {want:e}"
            );
        }
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert_eq!(ln(f64::INFINITY), f64::INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan());
    }

    /// The point of the room: these bits were computed once and hold everywhere.
    #[test]
    fn bits_are_pinned() {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for i in 0..10_000 {
            let x = f64::from(i) * -0.0073;
            for bits in [exp(x).to_bits(), ln(f64::from(i) * 0.37 + 0.01).to_bits()] {
                hash = (hash ^ bits).wrapping_mul(0x0100_0000_01b3);
            }
        }
        assert_eq!(hash, PINNED, "{hash:#x}");
    }
    const PINNED: u64 = 0xf3a7_06a8_8ef8_5094;

    #[test]
    fn powers() {
        assert_eq!(pow(0.0, 0.0), 1.0);
        assert_eq!(pow(0.0, 2.0), 0.0);
        assert!((pow(0.25, 0.5) - 0.5).abs() < 1e-15);
        assert_eq!(powi(1.5, 0), 1.0);
        assert_eq!(powi(1.5, 5), 7.59375);
        assert_eq!(powi(2.0, u32::MAX), f64::INFINITY);
    }

    #[test]
    fn cleaned_logits_are_ordered() {
        assert_eq!(clean(f32::NAN), f32::NEG_INFINITY);
        assert_eq!(clean(-f32::NAN), f32::NEG_INFINITY);
        assert_eq!(clean(f32::INFINITY), f32::MAX);
        assert_eq!(clean(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(clean(-0.0).to_bits(), 0);
        assert_eq!(clean(-3.5), -3.5);
    }
}
