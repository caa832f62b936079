//! One suite, run on every table the machine offers, against `scalar`.

use super::{
    Acts, Code, Form, Kernels, Live, MAX_K, Online, PAD, PanelRows, Put, RowType, RowsOf, scalar,
};
use crate::{
    kernels::{BLOCK, KvBlock},
    ops::rope::Pairs,
    packed::acts::interleave,
};
use half::f16;
use std::io::Write as _;

fn tables() -> impl Iterator<Item = &'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    let others = super::avxvnni::evex::table();
    #[cfg(not(target_arch = "x86_64"))]
    let others = None;
    Kernels::available().skip(1).chain(others)
}

#[test]
fn tables_this_machine_cannot_test_are_named() {
    let names: Vec<_> = tables().map(Kernels::name).collect();
    #[cfg(target_arch = "x86_64")]
    let all = ["avx2", "avxvnni", "avx512"];
    #[cfg(target_arch = "aarch64")]
    let all = ["neon", "dotprod", "i8mm"];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all: [&str; 0] = [];
    for name in all {
        if !names.contains(&name) {
            // Straight to the stream: the harness keeps what macros print, and a skip must be seen.
            let line = format!("NOT TESTED HERE: table {name:?}; this CPU runs {names:?}\n");
            std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
        }
    }
}

fn floats(n: usize, rng: &mut fastrand::Rng) -> Vec<f32> {
    (0..n).map(|_| (rng.f32() - 0.5) * f32::powi(2.0, rng.i32(-6..6))).collect()
}

fn random_panel(form: Form, k: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
    let bytes = form.panel_bytes(k);
    match form.code {
        Code::Bits2 | Code::Rows | Code::Columns => {
            (0..bytes).map(|_| (0..4).map(|f| rng.u8(0..3) << (2 * f)).sum()).collect()
        }
        Code::Base3 => (0..bytes).map(|_| 85 * rng.u8(0..3) + rng.u8(0..81)).collect(),
    }
}

/// Dots of one table; codes are `[token][stride]`.
fn dots(table: &Kernels, panel: &[u8], form: Form, k: usize, codes: &[i8]) -> Vec<i32> {
    let stride = k.next_multiple_of(PAD);
    let rows: Vec<_> = codes
        .chunks_exact(stride)
        .map(|row| crate::ops::norm::RowScale {
            step: 1.0,
            sum: row.iter().map(|c| i32::from(*c)).sum(),
        })
        .collect();
    let mut laid = vec![0; codes.len()];
    for (token, row) in codes.chunks_exact(stride).enumerate() {
        interleave(row, token, rows.len(), table.layout(), stride, &mut laid);
    }
    let mut out = vec![i32::MIN; rows.len() * form.rows()];
    table.dots(
        panel,
        form,
        k,
        Acts { codes: &laid, rows: &rows, stride, layout: table.layout() },
        &mut out,
    );
    out
}

/// A table that is not detected is not tested either: where the CPU is known, so are its tables.
#[test]
fn the_expected_tables_are_there() {
    let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
    assert_eq!(names.first(), Some(&"scalar"), "{names:?}");
    if let Ok(expected) = std::env::var("TERN_EXPECT_TABLES") {
        assert_eq!(names.join(" "), expected, "TERN_EXPECT_TABLES names the tables of this CPU");
    }
}

#[test]
fn every_table_has_scalar_dots() {
    let mut rng = fastrand::Rng::with_seed(7);
    for table in tables() {
        for form in table.forms() {
            for k in [128usize, 256, 384, 640, 2560, 6912].into_iter().filter(|k| form.fits(*k)) {
                let stride = k.next_multiple_of(PAD);
                let panel = random_panel(*form, k, &mut rng);
                for tokens in [1, 2, 3, 5, 6, 7, 8, 13, 17, 32] {
                    let mut codes = vec![0i8; tokens * stride];
                    for row in codes.chunks_exact_mut(stride) {
                        match rng.u32(0..4) {
                            0 => row[..k].fill(127),
                            1 => row[..k].fill(-127),
                            _ => row[..k].iter_mut().for_each(|c| *c = rng.i8(-127..=127)),
                        }
                    }
                    let want = dots(&scalar::KERNELS, &panel, *form, k, &codes);
                    let got = dots(table, &panel, *form, k, &codes);
                    assert_eq!(got, want, "{}, {form:?}, k {k}, {tokens} tokens", table.name());
                }
            }
        }
    }
}

#[test]
fn a_stream_of_panels_is_the_dots_of_each() {
    let mut rng = fastrand::Rng::with_seed(11);
    for table in tables() {
        for form in table.forms() {
            for (k, panels) in [(128usize, 1), (384, 5), (640, 3), (2560, 2), (6912, 2)] {
                if !form.fits(k) {
                    continue;
                }
                let stride = k.next_multiple_of(PAD);
                let bytes: Vec<Vec<u8>> =
                    (0..panels).map(|_| random_panel(*form, k, &mut rng)).collect();
                let mut codes = vec![0i8; stride];
                codes[..k].iter_mut().for_each(|code| *code = rng.i8(-127..=127));
                let sum = codes.iter().map(|code| i32::from(*code)).sum();
                let rows = [crate::ops::norm::RowScale { step: 1.0, sum }];
                let acts = Acts { codes: &codes, rows: &rows, stride, layout: table.layout() };
                let mut got = vec![i32::MIN; panels * form.rows()];
                table.stream(&bytes.concat(), *form, k, acts, &mut got);
                let want: Vec<i32> = bytes
                    .iter()
                    .flat_map(|panel| dots(&scalar::KERNELS, panel, *form, k, &codes))
                    .collect();
                assert_eq!(got, want, "{}, {form:?}, k {k}, {panels} panels", table.name());
            }
        }
    }
}

#[test]
fn the_longest_row_of_extremes_does_not_overflow() {
    for table in Kernels::available() {
        for form in table.forms() {
            let full = match form.code {
                Code::Bits2 | Code::Rows | Code::Columns => 0b10_10_10_10,
                Code::Base3 => 85 * 2 + 80,
            };
            // Code 2 in the padding is harmless: its activations are zero.
            let panel = vec![full; form.panel_bytes(MAX_K)];
            for (act, tokens) in [(127i8, 1), (-127, 1), (127, 3), (-127, table.layout().block)] {
                let mut row = vec![0; MAX_K.next_multiple_of(PAD)];
                row[..MAX_K].fill(act);
                let got = dots(table, &panel, *form, MAX_K, &row.repeat(tokens));
                assert_eq!(
                    got,
                    vec![i32::from(act) * MAX_K as i32; tokens * form.rows()],
                    "{}, {form:?}, {tokens} tokens",
                    table.name()
                );
            }
        }
    }
}

#[test]
fn every_table_leaves_out_what_is_zero() {
    let mut rng = fastrand::Rng::with_seed(12);
    for table in tables() {
        for (k, density) in [(256, 0.0), (256, 1.0), (512, 0.1), (2560, 0.32), (6912, 0.18)] {
            let acts: Vec<i8> =
                (0..k).map(|_| if rng.f32() < density { rng.i8(-127..=127) } else { 0 }).collect();
            let (mut places, mut codes) = (vec![0; k], vec![0; k]);
            let live = Live::collect(&acts, &mut places, &mut codes);
            let panel = random_panel(Form::COLUMNS, k, &mut rng);
            let (mut want, mut got) = (vec![0; 256], vec![0; 256]);
            scalar::KERNELS.live_columns(&panel, live, &mut want);
            table.live_columns(&panel, live, &mut got);
            assert_eq!(got, want, "{}, columns, k {k}, density {density}", table.name());
            let dense = dots(&scalar::KERNELS, &panel, Form::COLUMNS, k, &padded(&acts));
            assert_eq!(got, dense, "{}, columns, k {k}, density {density}", table.name());

            let rows = [(); 3].map(|()| random_panel(Form::ROWS, k, &mut rng)).concat();
            for density in [0.0, 0.1, 0.5, 1.0] {
                let live: Vec<u32> = (0..96).filter(|_| rng.f32() < density).collect();
                let of = RowsOf { rows: &rows, k, acts: &acts, sum: -4 };
                let (mut want, mut got) = (vec![0; live.len()], vec![0; live.len()]);
                scalar::KERNELS.live_rows(of, &live, &mut want);
                table.live_rows(of, &live, &mut got);
                assert_eq!(got, want, "{}, rows {live:?}, k {k}", table.name());
            }
        }
    }
}

#[test]
fn every_column_of_extremes_does_not_overflow() {
    let panel = vec![0b10_10_10_10; Form::COLUMNS.panel_bytes(MAX_K)];
    let places: Vec<u32> = (0..MAX_K as u32).collect();
    for table in Kernels::available() {
        for act in [127i8, -127] {
            let sum = i32::from(act) * MAX_K as i32;
            let mut out = vec![0; 256];
            let live = Live { places: &places, codes: &vec![act; MAX_K], sum };
            table.live_columns(&panel, live, &mut out);
            assert_eq!(out, vec![sum; 256], "{}, {act}", table.name());
        }
    }
}

/// One row of acts with the padding of a table.
fn padded(acts: &[i8]) -> Vec<i8> {
    let mut acts = acts.to_vec();
    acts.resize(acts.len().next_multiple_of(PAD), 0);
    acts
}

#[test]
fn every_table_has_scalar_float_steps() {
    let mut rng = fastrand::Rng::with_seed(8);
    for table in tables() {
        let name = table.name();
        for n in [1, 15, 16, 17, 64, 100, 128, 2560, 6912] {
            let (x, y) = (floats(n, &mut rng), floats(n, &mut rng));
            let run = |table: &Kernels| {
                let mut all = vec![vec![0.0; n]; 5];
                table.rms_norm(&x, &y, 1e-5, &mut all[0]);
                table.relu2_mul(&x, &y, &mut all[1]);
                table.silu_mul(&x, &y, &mut all[2]);
                all[3].copy_from_slice(&x);
                let of = PanelRows { values: &y, panel: n, tokens: 1 };
                table.gather(of, (0, 0), Put::Onto, n, &mut all[3]);
                let mut codes = vec![0; n];
                let row = table.quantize(&x, &mut codes);
                let dots: Vec<i32> = codes.iter().map(|c| i32::from(*c) * 9001).collect();
                table.rescale(&dots, &y, &[row], n, &mut all[4]);
                let bits: Vec<u32> = all.iter().flatten().map(|x| x.to_bits()).collect();
                (bits, codes, row)
            };
            assert!(run(table) == run(&scalar::KERNELS), "{name}, {n} values");
        }
        let mut strange = floats(40, &mut rng);
        strange[3] = f32::NAN;
        strange[17] = 1e30;
        let (mut a, mut b) = ([0; 40], [0; 40]);
        assert_eq!(
            table.quantize(&strange, &mut a),
            scalar::KERNELS.quantize(&strange, &mut b),
            "{name}"
        );
        assert_eq!(a, b, "{name}");
        let (values, old) = (floats(5 * 3 * 32, &mut rng), floats(2 * 100, &mut rng));
        for (panel, first, width) in
            [(32, 0, 96), (32, 32, 64), (32, 7, 80), (16, 0, 50), (96, 5, 64)]
        {
            let of = PanelRows { values: &values, panel, tokens: 5 };
            for put in [Put::Over, Put::Onto] {
                let (mut a, mut b) = (old[..2 * width].to_vec(), old[..2 * width].to_vec());
                table.gather(of, (1, first), put, width, &mut a);
                scalar::KERNELS.gather(of, (1, first), put, width, &mut b);
                assert_eq!(a, b, "{name}, panels of {panel}, {width} rows from {first}, {put:?}");
            }
        }
        for (heads, dim, rotated) in [(2, 64, 64), (5, 128, 128), (1, 80, 64)] {
            for pairs in [Pairs::Half, Pairs::Adjacent] {
                let (mut a, angles) = (floats(heads * dim, &mut rng), floats(rotated, &mut rng));
                let mut b = a.clone();
                table.rotate(&mut a, dim, pairs, &angles);
                scalar::KERNELS.rotate(&mut b, dim, pairs, &angles);
                assert!(
                    a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{name}, rotate {dim} {pairs:?}"
                );
            }
        }
    }
}

#[test]
fn every_table_has_scalar_attention() {
    const MANY: [usize; 12] = [64, 63, 1, 0, 5, 64, 40, 17, 33, 2, 64, 64];
    let mut rng = fastrand::Rng::with_seed(9);
    for table in tables() {
        for dim in [16, 64, 80, 100, 128, 256] {
            let keys: Vec<f16> =
                floats(dim * BLOCK, &mut rng).into_iter().map(f16::from_f32).collect();
            let values: Vec<f16> =
                floats(dim * BLOCK, &mut rng).into_iter().map(f16::from_f32).collect();
            let key_codes: Vec<i8> = (0..dim * BLOCK).map(|_| rng.i8(-127..=127)).collect();
            let value_codes: Vec<i8> = (0..dim * BLOCK).map(|_| rng.i8(-127..=127)).collect();
            let (key_steps, value_steps) = (floats(BLOCK, &mut rng), floats(BLOCK, &mut rng));
            let blocks = [
                KvBlock::F16 { keys: &keys, values: &values },
                KvBlock::I8 {
                    keys: &key_codes,
                    values: &value_codes,
                    key_steps: &key_steps,
                    value_steps: &value_steps,
                },
            ];
            for (lens, block) in [&[64, 1, 0, 63][..], &[1], &[33, 16, 17, 64, 64], &[64; 8], &MANY]
                .iter()
                .flat_map(|lens| blocks.iter().map(move |block| (lens, block)))
            {
                let n = lens.len();
                let queries = floats(n * dim, &mut rng);
                let start = floats(n * dim, &mut rng);
                let run = |table: &Kernels| {
                    let (mut max, mut sum, mut acc) =
                        (vec![f32::NEG_INFINITY; n], vec![0.0; n], vec![0.0; n * dim]);
                    // The second round meets a state that is under way.
                    for queries in [&queries, &start] {
                        let mut state =
                            Online { max: &mut max, sum: &mut sum, acc: &mut acc, next: 64 };
                        table.attend(queries, *block, lens, &mut state);
                    }
                    let (first, rest) = acc.split_at_mut(dim);
                    if n > 1 {
                        table.merge(&mut max[0], &mut sum[0], first, 0.5, 2.0, &rest[..dim]);
                    }
                    let bits: Vec<u32> =
                        max.iter().chain(&sum).chain(&acc).map(|x| x.to_bits()).collect();
                    bits
                };
                assert!(
                    run(table) == run(&scalar::KERNELS),
                    "{}, head_dim {dim}, {lens:?}",
                    table.name()
                );
            }
        }
    }
}

#[test]
fn every_table_has_scalar_row_dots() {
    let mut rng = fastrand::Rng::with_seed(10);
    for table in tables() {
        for (kind, k) in [
            (RowType::F32, 100),
            (RowType::F16, 16),
            (RowType::F16, 100),
            (RowType::F16, 2560),
            (RowType::Bf16, 384),
            (RowType::Q8_0, 96),
            (RowType::Q6K, 512),
        ] {
            let bytes = kind.row_bytes(k).expect("whole blocks");
            for (rows, inputs) in [(1, 1), (3, 1), (16, 2), (35, 5)] {
                let mut data: Vec<u8> = (0..rows * bytes).map(|_| rng.u8(..)).collect();
                match kind {
                    RowType::F32 => {
                        data.chunks_exact_mut(4).for_each(|b| b[3] = b[3] & 0x87 | 0x38)
                    }
                    RowType::F16 | RowType::Bf16 => {
                        data.chunks_exact_mut(2).for_each(|b| b[1] &= 0xbf)
                    }
                    RowType::Q8_0 => data.chunks_exact_mut(34).for_each(|b| b[1] &= 0x3f),
                    RowType::Q6K => data.chunks_exact_mut(210).for_each(|b| b[209] &= 0x3f),
                }
                let input = floats(inputs * k, &mut rng);
                let run = |table: &Kernels| {
                    let mut out = vec![0.0f32; rows * inputs];
                    table.row_dots(&data, kind, &input, k, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                assert!(
                    run(table) == run(&scalar::KERNELS),
                    "{}, {kind:?} {k}, {rows} x {inputs}",
                    table.name()
                );
            }
        }
    }
}

#[test]
fn scalar_decodes_q8_0_and_q6_k() {
    let mut block = vec![0u8; 34];
    block[..2].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
    block[2] = 3;
    block[33] = 0xfe;
    let mut out = [0.0; 32];
    Kernels::decode_row(&block, RowType::Q8_0, &mut out);
    assert_eq!((out[0], out[1], out[31]), (1.5, 0.0, -1.0));
    let mut block = vec![0u8; 210];
    block[208..].copy_from_slice(&f16::from_f32(2.0).to_le_bytes());
    block[192..208].fill(1);
    block[192 + 15] = 0xff;
    (block[0], block[128], block[127], block[191]) = (0x05, 0b01, 0xf0, 0b11 << 6);
    let mut out = [0.0; 256];
    Kernels::decode_row(&block, RowType::Q6K, &mut out);
    assert_eq!(out[0], 2.0 * (21.0 - 32.0));
    assert_eq!(out[64], 2.0 * -32.0);
    assert_eq!(out[255], -2.0 * (63.0 - 32.0));
}
