//! Our own elementary functions: the same bits everywhere, sections 8 and 6.

use super::Fma;

/// Below this, [`exp`] is +0; above, its result is a normal number.
pub(crate) const EXP_FLOOR: f32 = -87.336_54;

/// `e^x`, at most 2 ulp off; +0 below [`EXP_FLOOR`]; clamped above 88; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<F: Fma>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > 88.0 { 88.0 } else { x };
    let clamped = if clamped < EXP_FLOOR { EXP_FLOOR } else { clamped };
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = F::fma(n, -0.693_359_4, clamped);
    let r = F::fma(n, 2.121_944_4e-4, r);
    let p = F::fma(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = F::fma(p, r, 8.333_452e-3);
    let p = F::fma(p, r, 4.166_579_6e-2);
    let p = F::fma(p, r, 1.666_666_5e-1);
    let p = F::fma(p, r, 5.000_000_1e-1);
    let p = F::fma(p, r * r, r) + 1.0;
    // n lies in -126..=127: the exponent bits of a normal number.
    let power = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < EXP_FLOOR { 0.0 } else { p * power }
}

const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `e^x` in f64 for |x| < 700, about 1e-15 relative.
pub(crate) fn exp64(x: f64) -> f64 {
    let n = (x * std::f64::consts::LOG2_E).round_ties_even();
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // Taylor: |r| <= 0.347, and 0.347^14 / 14! is below 1e-17.
    let mut sum = 1.0;
    for k in (1..=14).rev() {
        sum = 1.0 + sum * r / f64::from(k);
    }
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// The natural logarithm of a positive normal number, about 1e-15 relative.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh(z), |z| <= 0.172: z^26 / 27 is below 1e-21.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    for k in (0..13).rev() {
        sum = sum * square + 1.0 / f64::from(2 * k + 1);
    }
    let n = exponent as f64;
    n * LN_2_HIGH + (2.0 * z * sum + n * LN_2_LOW)
}

/// Sine and cosine in f64 for |x| < 1e6, about 1e-13 absolute.
pub(crate) fn sin_cos(x: f64) -> (f64, f64) {
    const HALF_PI_HIGH: f64 = 1.570_796_326_734_125_6;
    const HALF_PI_LOW: f64 = 6.077_100_506_506_192e-11;
    let n = (x * std::f64::consts::FRAC_2_PI).round_ties_even();
    let r = (x - n * HALF_PI_HIGH) - n * HALF_PI_LOW;
    let square = r * r;
    // |r| <= 0.786: the 20th powers over their factorials are below 1e-20.
    let (mut sin, mut cos) = (1.0, 1.0);
    for k in (1..=9).rev() {
        let k = 2.0 * f64::from(k);
        sin = 1.0 - sin * square / (k * (k + 1.0));
        cos = 1.0 - cos * square / ((k - 1.0) * k);
    }
    let sin = sin * r;
    match n as i64 & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Software;

    #[test]
    fn exp_is_within_two_ulp() {
        for bits in (0x8000_0001u32..0xc2ae_ac4f).step_by(97).chain((0..0x42b0_0000).step_by(97)) {
            let x = f32::from_bits(bits);
            if x < EXP_FLOOR {
                continue;
            }
            let (got, want) = (exp::<Software>(x), f64::from(x).exp());
            let ulp =
                f64::from(f32::from_bits((want as f32).to_bits() + 1)) - f64::from(want as f32);
            assert!(
                (f64::from(got) - want).abs() <= 2.0 * ulp,
                "exp({x:e}) = {got:e}, wanted {want:e}"
            );
        }
        assert_eq!(exp::<Software>(0.0), 1.0);
        assert_eq!(exp::<Software>(-100.0), 0.0);
        assert_eq!(exp::<Software>(f32::NEG_INFINITY), 0.0);
        assert!(exp::<Software>(1000.0).is_finite());
        assert!(exp::<Software>(f32::NAN).is_nan());
    }

    #[test]
    fn f64_functions_agree_with_the_system_to_1e13() {
        for i in 1..20_000 {
            let x = f64::from(i) * 0.37;
            assert!((ln(x) - x.ln()).abs() <= 1e-13 * x.ln().abs().max(1.0), "ln {x}");
            let (s, c) = sin_cos(x);
            assert!(
                (s - x.sin()).abs() < 1e-12 && (c - x.cos()).abs() < 1e-12,
                "sin, cos {x}: {s} {c}"
            );
            let y = -x / 600.0;
            assert!((exp64(y) / y.exp() - 1.0).abs() < 1e-13, "exp {y}");
        }
    }
}
