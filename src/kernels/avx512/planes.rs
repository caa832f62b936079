//! Loops over the planes of the head, in an order of our own (as `ordered`).

use crate::kernels::screen::ROWS;
use std::arch::{asm, x86_64::*};

/// A group of rows of the plane of nibbles, `[row][term][field]`; `codes` are two registers a line, for both terms. A load
/// is 64 bytes a cycle: with one row at a time, loads of codes were the limit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn nibbles(
    group: &[[[u8; 64]; ROWS]],
    codes: [&[[[i8; 64]; 2]]; 2],
) -> [[[__m512i; 2]; 2]; ROWS] {
    let zero = _mm512_setzero_si512();
    assert!(codes.iter().all(|codes| codes.len() >= group.len()), "codes for every line");
    if group.is_empty() {
        return [[[zero; 2]; 2]; ROWS];
    }
    let masks = [_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0xf0u8 as i8)];
    // 0 to 15 sums, 16 and 17 the masks, 18 and 19 codes of both terms, 20 to 23 the lines, 24 to 27 a field of each.
    macro_rules! field {
        ($mask:literal, $at:literal, $a:literal, $b:literal, $c:literal, $d:literal, $e:literal, $f:literal, $g:literal, $h:literal) => {
            concat!(
                "vmovdqu64 zmm18, [{first} + ",
                $at,
                "]\n",
                "vmovdqu64 zmm19, [{second} + ",
                $at,
                "]\n",
                "vpandd zmm24, zmm20, ",
                $mask,
                "\n",
                "vpandd zmm25, zmm21, ",
                $mask,
                "\n",
                "vpdpbusd ",
                $a,
                ", zmm24, zmm18\n",
                "vpdpbusd ",
                $b,
                ", zmm24, zmm19\n",
                "vpandd zmm26, zmm22, ",
                $mask,
                "\n",
                "vpandd zmm27, zmm23, ",
                $mask,
                "\n",
                "vpdpbusd ",
                $c,
                ", zmm25, zmm18\n",
                "vpdpbusd ",
                $d,
                ", zmm25, zmm19\n",
                "vpdpbusd ",
                $e,
                ", zmm26, zmm18\n",
                "vpdpbusd ",
                $f,
                ", zmm26, zmm19\n",
                "vpdpbusd ",
                $g,
                ", zmm27, zmm18\n",
                "vpdpbusd ",
                $h,
                ", zmm27, zmm19\n",
            )
        };
    }
    let mut sums = [zero; 16];
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = &mut sums;
    // SAFETY: reads `group` from front to back and as many of each term's codes, which the assertion says are there, and asks
    // for lines behind them, which never faults. The function enables every instruction.
    unsafe {
        asm!(
            "2:",
            "prefetcht0 [{group} + {ahead}]",
            "prefetcht0 [{group} + {ahead} + 64]",
            "vmovdqu64 zmm20, [{group}]",
            "vmovdqu64 zmm21, [{group} + 64]",
            "vmovdqu64 zmm22, [{group} + 128]",
            "vmovdqu64 zmm23, [{group} + 192]",
            field!("zmm16", "0", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7"),
            "prefetcht0 [{group} + {ahead} + 128]",
            "prefetcht0 [{group} + {ahead} + 192]",
            field!("zmm17", "64", "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15"),
            "add {group}, 256",
            "add {first}, 128",
            "add {second}, 128",
            "dec {count}",
            "jnz 2b",
            group = inout(reg) group.as_ptr() => _,
            first = inout(reg) codes[0].as_ptr() => _,
            second = inout(reg) codes[1].as_ptr() => _,
            count = inout(reg) group.len() => _,
            ahead = const super::STREAM,
            inout("zmm0") *a, inout("zmm1") *b, inout("zmm2") *c, inout("zmm3") *d,
            inout("zmm4") *e, inout("zmm5") *f, inout("zmm6") *g, inout("zmm7") *h,
            inout("zmm8") *i, inout("zmm9") *j, inout("zmm10") *k, inout("zmm11") *l,
            inout("zmm12") *m, inout("zmm13") *n, inout("zmm14") *o, inout("zmm15") *p,
            in("zmm16") masks[0], in("zmm17") masks[1],
            out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _,
            out("zmm23") _, out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            options(nostack, readonly),
        );
    }
    std::array::from_fn(|row| {
        std::array::from_fn(|term| [sums[2 * row + term], sums[8 + 2 * row + term]])
    })
}

/// Whole lines of four rows of a plane of pairs, `[row][field]`; `codes` are those of the quarters of a row, one behind the
/// other. Asks for as many lines behind `ahead` as the rows have, one after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn pairs(
    rows: [&[[u8; 64]]; ROWS],
    codes: &[i8],
    ahead: *const u8,
) -> [super::pairs::Fields; ROWS] {
    let zero = _mm512_setzero_si512();
    let (lines, quarter) = (rows[0].len(), codes.len() / 4);
    assert!(rows.iter().all(|row| row.len() == lines), "rows of one length");
    assert!(quarter >= lines * 64, "codes for every line");
    if lines == 0 {
        return [[zero; 4]; ROWS];
    }
    let [a, b, c, d] = super::pairs::MASKS;
    let masks =
        [_mm512_set1_epi8(a), _mm512_set1_epi8(b), _mm512_set1_epi8(c), _mm512_set1_epi8(d)];
    // 0 to 15 sums, 16 to 19 the masks, 20 to 23 the lines, 24 to 27 a field of each, 28 and 29 codes in turn.
    macro_rules! field {
        ($codes:literal, $at:literal, $mask:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
            concat!(
                "vmovdqu64 ",
                $codes,
                ", [{codes} + ",
                $at,
                "]\n",
                "vpandd zmm24, zmm20, ",
                $mask,
                "\n",
                "vpandd zmm25, zmm21, ",
                $mask,
                "\n",
                "vpdpbusd ",
                $a,
                ", zmm24, ",
                $codes,
                "\n",
                "vpdpbusd ",
                $b,
                ", zmm25, ",
                $codes,
                "\n",
                "vpandd zmm26, zmm22, ",
                $mask,
                "\n",
                "vpandd zmm27, zmm23, ",
                $mask,
                "\n",
                "vpdpbusd ",
                $c,
                ", zmm26, ",
                $codes,
                "\n",
                "vpdpbusd ",
                $d,
                ", zmm27, ",
                $codes,
                "\n",
            )
        };
    }
    let mut sums = [zero; 16];
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = &mut sums;
    // SAFETY: reads the lines of each row and as many codes of each quarter, which the assertions say are there, and asks for
    // lines behind `ahead`, which never faults. The function enables every instruction.
    unsafe {
        asm!(
            "2:",
            "prefetcht0 [{ahead} + 4*{i}]",
            "prefetcht0 [{ahead} + 4*{i} + 64]",
            "vmovdqu64 zmm20, [{r0} + {i}]",
            "vmovdqu64 zmm21, [{r1} + {i}]",
            "vmovdqu64 zmm22, [{r2} + {i}]",
            "vmovdqu64 zmm23, [{r3} + {i}]",
            field!("zmm28", "{i}", "zmm16", "zmm0", "zmm1", "zmm2", "zmm3"),
            field!("zmm29", "{one}", "zmm17", "zmm4", "zmm5", "zmm6", "zmm7"),
            "prefetcht0 [{ahead} + 4*{i} + 128]",
            "prefetcht0 [{ahead} + 4*{i} + 192]",
            field!("zmm28", "{two}", "zmm18", "zmm8", "zmm9", "zmm10", "zmm11"),
            field!("zmm29", "{three}", "zmm19", "zmm12", "zmm13", "zmm14", "zmm15"),
            "add {i}, 64",
            "add {one}, 64",
            "add {two}, 64",
            "add {three}, 64",
            "cmp {i}, {end}",
            "jne 2b",
            r0 = in(reg) rows[0].as_ptr(),
            r1 = in(reg) rows[1].as_ptr(),
            r2 = in(reg) rows[2].as_ptr(),
            r3 = in(reg) rows[3].as_ptr(),
            codes = in(reg) codes.as_ptr(),
            one = inout(reg) quarter => _,
            two = inout(reg) 2 * quarter => _,
            three = inout(reg) 3 * quarter => _,
            ahead = in(reg) ahead,
            i = inout(reg) 0usize => _,
            end = in(reg) lines * 64,
            inout("zmm0") *a, inout("zmm1") *b, inout("zmm2") *c, inout("zmm3") *d,
            inout("zmm4") *e, inout("zmm5") *f, inout("zmm6") *g, inout("zmm7") *h,
            inout("zmm8") *i, inout("zmm9") *j, inout("zmm10") *k, inout("zmm11") *l,
            inout("zmm12") *m, inout("zmm13") *n, inout("zmm14") *o, inout("zmm15") *p,
            in("zmm16") masks[0], in("zmm17") masks[1], in("zmm18") masks[2], in("zmm19") masks[3],
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _, out("zmm24") _,
            out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
            options(nostack, readonly),
        );
    }
    std::array::from_fn(|row| std::array::from_fn(|field| sums[4 * field + row]))
}

/// What is asked for of the two planes in each step: from where on, and how far it goes on.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Two lines.
    pub high: (*const u8, usize),
    /// One.
    pub middle: (*const u8, usize),
}

/// Two rows, the `pair`th of a group, against four states or three: sums of `[state][row][term]`. `codes` are those of the
/// states one behind the other, `k` of each. The middle plane is gone through once for each of its four fields.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn states(
    (group, pair): (&[[[u8; 64]; ROWS]], usize),
    middle: (&[[u8; 64]], &[[u8; 64]]),
    codes: [&[i8]; 2],
    k: usize,
    ahead: Ahead,
) -> [__m512i; 16] {
    let lines = group.len() / 4;
    let states = codes[0].len() / k;
    let mut sums = [_mm512_setzero_si512(); 16];
    assert!(group.len() == 4 * lines && group.len() * 128 == k && pair < 2, "four whole quarters");
    assert!([middle.0.len(), middle.1.len()] == [2 * lines; 2], "two registers a line");
    assert!(states >= 3 && codes.iter().all(|codes| codes.len() == states * k), "codes of states");
    if lines == 0 {
        return sums;
    }
    // 0 to 15 sums; 16 and 17 the rows, 18, 19, 28 and 29 the pairs, then the six bits; 20 to 23 the nibbles; 24 and 25 codes
    // of both terms; 26 and 27 nibbles on their way to six bits; 30 and 31 the masks.
    macro_rules! state {
        ($at:literal, $u:literal, $v:literal, $x:literal, $y:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
            concat!(
                "vmovdqu64 zmm24, [{p} + ",
                $at,
                "]\n",
                "vmovdqu64 zmm25, [{q} + ",
                $at,
                "]\n",
                "vpdpbusd ",
                $a,
                ", ",
                $u,
                ", zmm24\n",
                "vpdpbusd ",
                $c,
                ", ",
                $v,
                ", zmm24\n",
                "vpdpbusd ",
                $b,
                ", ",
                $x,
                ", zmm25\n",
                "vpdpbusd ",
                $d,
                ", ",
                $y,
                ", zmm25\n",
            )
        };
    }
    macro_rules! quarter {
        ($shift:literal) => {
            concat!(
                "xor {i:e}, {i:e}\n",
                "2:\n",
                "prefetcht1 [{high}]\n",
                "vmovdqu64 zmm16, [{rows}]\n",
                "vmovdqu64 zmm17, [{rows} + 64]\n",
                "vpsrlw zmm18, [{m0} + {i}], ",
                $shift,
                "\n",
                "vpsrlw zmm19, [{m1} + {i}], ",
                $shift,
                "\n",
                "vpandd zmm20, zmm16, zmm30\n",
                "vpandd zmm21, zmm17, zmm30\n",
                "vpsrlw zmm28, [{m0} + {i} + 64], ",
                $shift,
                "\n",
                "vpsrlw zmm29, [{m1} + {i} + 64], ",
                $shift,
                "\n",
                "vpsllw zmm26, zmm20, 2\n",
                "vpsllw zmm27, zmm21, 2\n",
                "vpternlogd zmm18, zmm31, zmm26, 0xea\n",
                "vpternlogd zmm19, zmm31, zmm27, 0xea\n",
                "vpsrlw zmm22, zmm16, 4\n",
                "vpsrlw zmm23, zmm17, 4\n",
                state!("0", "zmm18", "zmm19", "zmm20", "zmm21", "zmm0", "zmm1", "zmm2", "zmm3"),
                "vpandd zmm22, zmm22, zmm30\n",
                "vpandd zmm23, zmm23, zmm30\n",
                state!("{k}", "zmm18", "zmm19", "zmm20", "zmm21", "zmm4", "zmm5", "zmm6", "zmm7"),
                "vpsllw zmm26, zmm22, 2\n",
                "vpsllw zmm27, zmm23, 2\n",
                state!(
                    "2*{k}", "zmm18", "zmm19", "zmm20", "zmm21", "zmm8", "zmm9", "zmm10", "zmm11"
                ),
                "vpternlogd zmm28, zmm31, zmm26, 0xea\n",
                "vpternlogd zmm29, zmm31, zmm27, 0xea\n",
                state!(
                    "{k3}", "zmm18", "zmm19", "zmm20", "zmm21", "zmm12", "zmm13", "zmm14", "zmm15"
                ),
                "prefetcht1 [{high} + 64]\n",
                "add {high}, {high_step}\n",
                state!("64", "zmm28", "zmm29", "zmm22", "zmm23", "zmm0", "zmm1", "zmm2", "zmm3"),
                state!(
                    "{k} + 64", "zmm28", "zmm29", "zmm22", "zmm23", "zmm4", "zmm5", "zmm6", "zmm7"
                ),
                "prefetcht1 [{next}]\n",
                "add {next}, {next_step}\n",
                state!(
                    "2*{k} + 64",
                    "zmm28",
                    "zmm29",
                    "zmm22",
                    "zmm23",
                    "zmm8",
                    "zmm9",
                    "zmm10",
                    "zmm11"
                ),
                state!(
                    "{k3} + 64",
                    "zmm28",
                    "zmm29",
                    "zmm22",
                    "zmm23",
                    "zmm12",
                    "zmm13",
                    "zmm14",
                    "zmm15"
                ),
                "add {rows}, 256\n",
                "add {i}, 128\n",
                "add {p}, 128\n",
                "add {q}, 128\n",
                "cmp {i}, {quarter}\n",
                "jne 2b\n",
            )
        };
    }
    let (low, pairs) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x03));
    let [a, b, c, d, e, f, g, h, i, j, l, m, n, o, p, q] = &mut sums;
    // SAFETY: reads two rows of the group, four times the middle plane of both, and as many codes of each state, of which
    // the assertions say that they are there. The function enables every instruction.
    unsafe {
        asm!(
            quarter!("0"),
            quarter!("2"),
            quarter!("4"),
            quarter!("6"),
            rows = inout(reg) group.as_ptr().cast::<u8>().wrapping_add(128 * pair) => _,
            m0 = in(reg) middle.0.as_ptr(),
            m1 = in(reg) middle.1.as_ptr(),
            i = out(reg) _,
            high = inout(reg) ahead.high.0 => _,
            high_step = in(reg) ahead.high.1,
            next = inout(reg) ahead.middle.0 => _,
            next_step = in(reg) ahead.middle.1,
            p = inout(reg) codes[0].as_ptr() => _,
            q = inout(reg) codes[1].as_ptr() => _,
            k = in(reg) k,
            k3 = in(reg) (states - 1) * k,
            quarter = in(reg) 128 * lines,
            in("zmm30") low,
            in("zmm31") pairs,
            inout("zmm0") *a, inout("zmm1") *b, inout("zmm2") *c, inout("zmm3") *d,
            inout("zmm4") *e, inout("zmm5") *f, inout("zmm6") *g, inout("zmm7") *h,
            inout("zmm8") *i, inout("zmm9") *j, inout("zmm10") *l, inout("zmm11") *m,
            inout("zmm12") *n, inout("zmm13") *o, inout("zmm14") *p, inout("zmm15") *q,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _,
            out("zmm22") _, out("zmm23") _, out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _,
            options(nostack, readonly),
        );
    }
    sums
}
