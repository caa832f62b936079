//! The loops of one token, their instructions in an order of our own.
//!
//! A Zen 4 hands vector instructions to two schedulers in turn, each with one of the two pipes that multiply. So it
//! counts which neighbours a multiplication has: `and, and, dot, dot` runs at one dot a cycle, the same instructions as
//! `and, dot, and, dot` at 0.77, because then all dots wait for one pipe. Compilers write the second. The orders below
//! were found by measuring; other CPUs do not mind them.
//!
//! | cycles for 64 bytes, from the second cache | compiler's order | this one | its loop alone | least possible |
//! |---|--:|--:|--:|--:|
//! | two bits: 4 masks, 4 dots | 4.8 | 4.1 | | 4 |
//! | base 3: 6 to decode, 4 masks, 5 dots | 9.4 | 8.1 | 7.7 | 7.5 |
//!
//! Registers of both: 0 to 9 sums, `[tile][field]`, 10 to 13 the masks of the four fields, behind them what decoding
//! keeps and what comes and goes.

use super::{STREAM, base3::Tables};
use std::arch::{asm, x86_64::*};

/// One step of a panel: two tiles.
type Step = [[u8; 64]; 2];

/// The sums of a tile, one a field: multiples of `4^field`, as codes are multiplied where they lie.
pub(super) type Fields = [__m512i; 5];

/// Adds steps of two-bit codes, `[tile][field]`; `acts` are sixteen a step, field after field.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn two_bits(
    steps: &[Step],
    acts: &[[i8; 16]],
    masks: &[__m512i; 4],
    sums: &mut [Fields; 2],
) {
    assert!(steps.len() <= acts.len(), "acts for every step");
    if steps.is_empty() {
        return;
    }
    // 14, 15 the codes of both tiles; 16 to 19 a field of each, twice.
    macro_rules! field {
        ($acts:literal, $mask:literal, $first:literal, $second:literal, $a:literal, $b:literal) => {
            concat!(
                "vpandd ",
                $a,
                ", zmm14, ",
                $mask,
                "\n",
                "vpandd ",
                $b,
                ", zmm15, ",
                $mask,
                "\n",
                "vpdpbusd ",
                $first,
                ", ",
                $a,
                ", dword ptr [{acts} + ",
                $acts,
                "]{{1to16}}\n",
                "vpdpbusd ",
                $second,
                ", ",
                $b,
                ", dword ptr [{acts} + ",
                $acts,
                "]{{1to16}}"
            )
        };
    }
    let [[a0, a1, a2, a3, _], [b0, b1, b2, b3, _]] = sums;
    // SAFETY: reads `steps` from front to back and as many blocks of `acts`, which the assertion says are there, and
    // asks for lines behind them, which never faults. The function enables every instruction.
    unsafe {
        asm!(
            "2:",
            "prefetcht0 [{steps} + {ahead}]",
            "prefetcht0 [{steps} + {ahead} + 64]",
            "vmovdqu64 zmm14, [{steps}]",
            "vmovdqu64 zmm15, [{steps} + 64]",
            field!("0", "zmm10", "zmm0", "zmm5", "zmm16", "zmm17"),
            field!("4", "zmm11", "zmm1", "zmm6", "zmm18", "zmm19"),
            field!("8", "zmm12", "zmm2", "zmm7", "zmm16", "zmm17"),
            field!("12", "zmm13", "zmm3", "zmm8", "zmm18", "zmm19"),
            "add {steps}, 128",
            "add {acts}, 16",
            "dec {count}",
            "jnz 2b",
            steps = inout(reg) steps.as_ptr() => _,
            acts = inout(reg) acts.as_ptr() => _,
            count = inout(reg) steps.len() => _,
            ahead = const STREAM,
            inout("zmm0") *a0, inout("zmm1") *a1, inout("zmm2") *a2, inout("zmm3") *a3,
            inout("zmm5") *b0, inout("zmm6") *b1, inout("zmm7") *b2, inout("zmm8") *b3,
            in("zmm10") masks[0], in("zmm11") masks[1], in("zmm12") masks[2], in("zmm13") masks[3],
            out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            options(nostack, readonly),
        );
    }
}

/// Adds pairs of steps of base-3 codes; `acts` are forty a pair, twenty a step, field after field.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi,gfni")]
pub(super) fn base_3(
    pairs: &[[Step; 2]],
    acts: &[[i8; 40]],
    tables: &Tables,
    masks: &[__m512i; 4],
    sums: &mut [Fields; 2],
) {
    assert!(pairs.len() <= acts.len(), "acts for every pair");
    if pairs.is_empty() {
        return;
    }
    // Tile 0 to 3 of a pair: its bytes, then their codes; what decoding needs for a while; the fifth code.
    macro_rules! x {
        (0) => {
            "zmm19"
        };
        (1) => {
            "zmm22"
        };
        (2) => {
            "zmm25"
        };
        (3) => {
            "zmm28"
        };
    }
    macro_rules! y {
        (0) => {
            "zmm20"
        };
        (1) => {
            "zmm23"
        };
        (2) => {
            "zmm26"
        };
        (3) => {
            "zmm29"
        };
    }
    macro_rules! z {
        (0) => {
            "zmm21"
        };
        (1) => {
            "zmm24"
        };
        (2) => {
            "zmm27"
        };
        (3) => {
            "zmm30"
        };
    }
    // Where a tile's acts begin.
    macro_rules! acts_at {
        (0) => {
            "0"
        };
        (1) => {
            "0"
        };
        (2) => {
            "20"
        };
        (3) => {
            "20"
        };
    }
    // The sum of a field: tiles 0 and 2 are of the same rows.
    macro_rules! sum {
        (0, 0) => {
            "zmm0"
        };
        (0, 1) => {
            "zmm1"
        };
        (0, 2) => {
            "zmm2"
        };
        (0, 3) => {
            "zmm3"
        };
        (0, 4) => {
            "zmm4"
        };
        (1, 0) => {
            "zmm5"
        };
        (1, 1) => {
            "zmm6"
        };
        (1, 2) => {
            "zmm7"
        };
        (1, 3) => {
            "zmm8"
        };
        (1, 4) => {
            "zmm9"
        };
        (2, $field:tt) => {
            sum!(0, $field)
        };
        (3, $field:tt) => {
            sum!(1, $field)
        };
    }
    macro_rules! ahead {
        ($t:tt) => {
            concat!("prefetcht0 [{pairs} + {ahead} + 64 * ", $t, "]")
        };
    }
    macro_rules! load {
        ($t:tt) => {
            concat!("vmovdqu64 ", x!($t), ", [{pairs} + 64 * ", $t, "]")
        };
    }
    // `Tables::decode`, an instruction each.
    macro_rules! half {
        ($t:tt) => {
            concat!("vpavgb ", y!($t), ", zmm18, ", x!($t))
        };
    }
    macro_rules! quarter {
        ($t:tt) => {
            concat!("vpavgb ", y!($t), ", ", y!($t), ", ", x!($t))
        };
    }
    macro_rules! fifth {
        ($t:tt) => {
            concat!("vpandd ", z!($t), ", zmm14, ", y!($t))
        };
    }
    macro_rules! times_85 {
        ($t:tt) => {
            concat!("vgf2p8affineqb ", y!($t), ", ", z!($t), ", zmm15, 0")
        };
    }
    macro_rules! rest {
        ($t:tt) => {
            concat!("vpsubb ", x!($t), ", ", x!($t), ", ", y!($t))
        };
    }
    macro_rules! codes {
        ($t:tt) => {
            concat!("vpermi2b ", x!($t), ", zmm16, zmm17")
        };
    }
    // Field 1 takes the fifth code's register when that is spent, field 3 that of all codes.
    macro_rules! field {
        ($t:tt, 0) => {
            y!($t)
        };
        ($t:tt, 1) => {
            z!($t)
        };
        ($t:tt, 2) => {
            y!($t)
        };
        ($t:tt, 3) => {
            x!($t)
        };
        ($t:tt, 4) => {
            z!($t)
        };
    }
    macro_rules! mask {
        ($t:tt, $f:tt) => {
            concat!("vpandd ", field!($t, $f), ", ", x!($t), ", ", mask_of!($f))
        };
    }
    macro_rules! mask_of {
        (0) => {
            "zmm10"
        };
        (1) => {
            "zmm11"
        };
        (2) => {
            "zmm12"
        };
        (3) => {
            "zmm13"
        };
    }
    macro_rules! dot {
        ($t:tt, $f:tt) => {
            concat!(
                "vpdpbusd ",
                sum!($t, $f),
                ", ",
                field!($t, $f),
                ", dword ptr [{acts} + ",
                acts_at!($t),
                " + 4 * ",
                $f,
                "]{{1to16}}"
            )
        };
    }
    let zero = _mm512_setzero_si512();
    let [[a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]] = sums;
    // SAFETY: reads `pairs` from front to back and as many blocks of `acts`, which the assertion says are there, and
    // asks for lines behind them, which never faults. The function enables every instruction.
    unsafe {
        asm!(
            "2:",
            ahead!(2), ahead!(3), load!(1), load!(2), load!(3), load!(0), half!(0), half!(3), half!(2), quarter!(3),
            half!(1), fifth!(3), ahead!(0), quarter!(1), quarter!(2), times_85!(3), fifth!(2), fifth!(1), times_85!(2),
            quarter!(0), dot!(2, 4), rest!(3), dot!(3, 4), times_85!(1), rest!(2), ahead!(1), codes!(2), dot!(1, 4),
            mask!(2, 1), mask!(2, 0), codes!(3), dot!(2, 0), dot!(2, 1), mask!(2, 2), rest!(1), fifth!(0), times_85!(0),
            mask!(2, 3), mask!(3, 0), mask!(3, 1), codes!(1), dot!(0, 4), rest!(0), mask!(1, 0), codes!(0), mask!(0, 0),
            mask!(1, 1), dot!(3, 0), mask!(0, 1), dot!(0, 0), mask!(3, 2), dot!(2, 3), mask!(0, 2), dot!(0, 2),
            dot!(3, 1), dot!(1, 0), mask!(1, 2), mask!(1, 3), dot!(0, 1), dot!(1, 2), dot!(3, 2), mask!(0, 3),
            mask!(3, 3), dot!(0, 3), dot!(1, 3), dot!(2, 2), dot!(1, 1), dot!(3, 3),
            "add {pairs}, 256",
            "add {acts}, 40",
            "dec {count}",
            "jnz 2b",
            pairs = inout(reg) pairs.as_ptr() => _,
            acts = inout(reg) acts.as_ptr() => _,
            count = inout(reg) pairs.len() => _,
            ahead = const STREAM,
            inout("zmm0") *a0, inout("zmm1") *a1, inout("zmm2") *a2, inout("zmm3") *a3, inout("zmm4") *a4,
            inout("zmm5") *b0, inout("zmm6") *b1, inout("zmm7") *b2, inout("zmm8") *b3, inout("zmm9") *b4,
            in("zmm10") masks[0], in("zmm11") masks[1], in("zmm12") masks[2], in("zmm13") masks[3],
            in("zmm14") tables.top, in("zmm15") tables.times_85,
            in("zmm16") tables.fields[0], in("zmm17") tables.fields[1],
            in("zmm18") zero,
            out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _, out("zmm24") _,
            out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _, out("zmm30") _,
            options(nostack, readonly),
        );
    }
}
