//! Nibbles and pairs of the head's rows, joined to six bits in registers, against the first terms of several states.
//!
//! Two rows by eight states are sixteen sums: one multiplication for 64 weights and a state, and each row is gone through once.
//! The six bits stand in a byte as its upper ones, as the file's nibbles do, so that `acc` is four times the sum:
//! `|acc| <= 65536 / 16 * 252 * 127 < 2^27` a lane, and 2^31 together.

use super::states::each;
use crate::kernels::screen::{FirstTermsOf, ROWS};
use std::arch::{asm, x86_64::*};

/// States that share the loads of rows: two times four, of which some may be the same.
const STATES: usize = 8;
const HALF: usize = STATES / 2;
/// The fewest: for one the memory is the limit.
const FEWEST: usize = 2;
/// Rows that go together.
const PAIR: usize = 2;

/// Which states the halves are.
fn states_of(states: usize) -> [[usize; HALF]; 2] {
    match states {
        2 => [[0; HALF], [1; HALF]],
        3 => [[0, 1, 2, 2]; 2],
        _ => [0, states - HALF].map(|first| [first, first + 1, first + 2, first + 3]),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn first_terms(of: FirstTermsOf<'_>, out: &mut [[i32; 2]]) {
    let k = of.k;
    let (rows, states) = (of.middle.len() / (k / 4), of.codes.len() / k);
    // A field of a plane of pairs is a quarter of a row, and whole lines of the nibbles: blocks of 512 weights.
    let many = if k.is_multiple_of(512) && states >= FEWEST { states } else { 0 };
    let whole = if many > 0 { rows / ROWS * ROWS } else { 0 };
    // The last ones begin where they are whole.
    for some in (0..many).step_by(STATES) {
        let some = some.min(many - FEWEST)..many.min(some + STATES);
        let codes = &of.codes[some.start * k..some.end * k];
        let out = &mut out[some.start * rows..some.end * rows];
        for first in (0..whole).step_by(PAIR) {
            together(FirstTermsOf { codes, ..of }, first, rows, out);
        }
    }
    super::KERNELS.first_terms_one_by_one(of, whole, rows, out);
}

/// Two rows against two to eight states.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn together(of: FirstTermsOf<'_>, first: usize, rows: usize, out: &mut [[i32; 2]]) {
    let k = of.k;
    let group = first / ROWS;
    let lines = of.high[group * ROWS * k / 2..][..ROWS * k / 2].as_chunks::<64>().0;
    let lines = (lines.as_chunks::<ROWS>().0, first % ROWS / PAIR);
    let middle = &of.middle[first * k / 4..][..PAIR * k / 4];
    let sums = each(sums(lines, middle, of.codes, k));
    let states = of.codes.len() / k;
    let sums = sums.as_flattened().as_chunks::<PAIR>().0;
    for (state, sums) in states_of(states).as_flattened().iter().zip(sums) {
        out[state * rows + first..][..PAIR].copy_from_slice(&sums.map(|sum| [sum / 4, 0]));
    }
}

/// The `pair`th two rows of a group, their pairs, against states: four times the sums of `[half][state][row]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums(
    (group, pair): (&[[[u8; 64]; ROWS]], usize),
    middle: &[u8],
    codes: &[i8],
    k: usize,
) -> [__m512i; 16] {
    let (lines, quarter) = (group.len() / 4, k / 4);
    let states = codes.len() / k;
    let mut sums = [_mm512_setzero_si512(); 16];
    assert!(group.len() == 4 * lines && group.len() * 128 == k && pair < 2, "four whole quarters");
    assert!(middle.len() == 2 * quarter, "two rows of pairs");
    assert!((FEWEST..=STATES).contains(&states) && codes.len() == states * k, "codes of states");
    if lines == 0 {
        return sums;
    }
    // 0 to 15 sums; 16 and 17 the nibbles; 18 and 19 the pairs, then the six bits; 22 and 23 nibbles on their way up; 24 and 25
    // codes in turn; 30 and 31 the masks of the nibbles and of the pairs.
    macro_rules! state {
        ($codes:literal, $state:literal, $at:literal, $a:literal, $b:literal) => {
            concat!(
                "vmovdqu64 ",
                $codes,
                ", [",
                $state,
                $at,
                "]\n",
                "vpdpbusd ",
                $a,
                ", zmm18, ",
                $codes,
                "\n",
                "vpdpbusd ",
                $b,
                ", zmm19, ",
                $codes,
                "\n",
            )
        };
    }
    macro_rules! states {
        ($at:literal) => {
            concat!(
                state!("zmm24", "{p}", $at, "zmm0", "zmm1"),
                state!("zmm25", "{p} + {k}", $at, "zmm2", "zmm3"),
                state!("zmm24", "{p} + 2*{k}", $at, "zmm4", "zmm5"),
                state!("zmm25", "{p} + {k3}", $at, "zmm6", "zmm7"),
                state!("zmm24", "{q}", $at, "zmm8", "zmm9"),
                state!("zmm25", "{q} + {k}", $at, "zmm10", "zmm11"),
                state!("zmm24", "{q} + 2*{k}", $at, "zmm12", "zmm13"),
                state!("zmm25", "{q} + {k3}", $at, "zmm14", "zmm15"),
            )
        };
    }
    // A field of 64 bytes of the pairs of both rows, on its way to bits 2 and 3.
    macro_rules! pairs {
        ($at:literal, $move:literal, $by:literal) => {
            concat!(
                $move,
                " zmm18, [{middle}",
                $at,
                "]",
                $by,
                "\n",
                $move,
                " zmm19, [{middle} + {quarter}",
                $at,
                "]",
                $by,
                "\n",
                "vpandd zmm18, zmm18, zmm31\n",
                "vpandd zmm19, zmm19, zmm31\n",
            )
        };
    }
    // 0xf8: the first, and the second where the third has a bit.
    macro_rules! field {
        ($move:literal, $by:literal) => {
            concat!(
                "mov {count:e}, {lines:e}\n",
                ".p2align 6\n",
                "2:\n",
                "prefetcht0 [{rows} + {ahead}]\n",
                "vmovdqu64 zmm16, [{rows}]\n",
                "vmovdqu64 zmm17, [{rows} + 64]\n",
                pairs!("", $move, $by),
                "vpsllw zmm22, zmm16, 4\n",
                "vpsllw zmm23, zmm17, 4\n",
                "vpternlogd zmm18, zmm22, zmm30, 0xf8\n",
                "vpternlogd zmm19, zmm23, zmm30, 0xf8\n",
                "prefetcht0 [{rows} + {ahead} + 64]\n",
                states!(""),
                "prefetcht0 [{next}]\n",
                pairs!(" + 64", $move, $by),
                "vpternlogd zmm18, zmm16, zmm30, 0xf8\n",
                "vpternlogd zmm19, zmm17, zmm30, 0xf8\n",
                states!(" + 64"),
                "add {rows}, 256\n",
                "add {middle}, 128\n",
                "add {next}, 64\n",
                "add {p}, 128\n",
                "add {q}, 128\n",
                "dec {count:e}\n",
                "jnz 2b\n",
                "sub {middle}, {quarter}\n",
            )
        };
    }
    // Where the states of a half lie, from its first on: 0, k, twice k, k3.
    let [half, other] = states_of(states);
    let strides = [half[1] - half[0], half[3] - half[0]].map(|states| states * k);
    let masks = [_mm512_set1_epi8(0xf0u8 as i8), _mm512_set1_epi8(0x0c)];
    let [a, b, c, d, e, f, g, h, i, j, l, m, n, o, p, q] = &mut sums;
    // SAFETY: reads two rows of the group, four times the pairs of both, and as many codes of each state, of which the
    // assertions say that they are there, and asks for lines behind them, which never faults. The function enables every instruction.
    unsafe {
        asm!(
            field!("vpsllw", ", 2"),
            field!("vmovdqu64", ""),
            field!("vpsrlw", ", 2"),
            field!("vpsrlw", ", 4"),
            rows = inout(reg) group.as_ptr().cast::<u8>().wrapping_add(128 * pair) => _,
            ahead = in(reg) ROWS * k / 2,
            middle = inout(reg) middle.as_ptr() => _,
            quarter = in(reg) quarter,
            next = inout(reg) middle.as_ptr().wrapping_add(2 * ROWS * quarter) => _,
            p = inout(reg) codes.as_ptr() => _,
            q = inout(reg) codes[other[0] * k..].as_ptr() => _,
            k = in(reg) strides[0],
            k3 = in(reg) strides[1],
            lines = in(reg) lines,
            count = out(reg) _,
            in("zmm30") masks[0],
            in("zmm31") masks[1],
            inout("zmm0") *a, inout("zmm1") *b, inout("zmm2") *c, inout("zmm3") *d,
            inout("zmm4") *e, inout("zmm5") *f, inout("zmm6") *g, inout("zmm7") *h,
            inout("zmm8") *i, inout("zmm9") *j, inout("zmm10") *l, inout("zmm11") *m,
            inout("zmm12") *n, inout("zmm13") *o, inout("zmm14") *p, inout("zmm15") *q,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm22") _, out("zmm23") _, out("zmm24") _, out("zmm25") _,
            options(nostack, readonly),
        );
    }
    sums
}
