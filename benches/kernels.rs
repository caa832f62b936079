//! Every kernel of every table this CPU runs: `cargo bench --bench kernels [-- FILTER]`.
//!
//! Names read `table/kernel/shape`. Products of one token and all that streams weights report bytes
//! each second, products of several tokens report multiply-adds. `near` works from the second cache,
//! `far` from memory. The two probes printed first say what this machine can do at this minute.
#![allow(clippy::print_stdout, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use half::f16;
use std::{hint::black_box, time::Duration};
use tern::kernels::{
    Acts, BLOCK, Code, Form, Inputs, Kernels, KvBlock, Live, Online, PAD, Pairs, PanelRows, Put,
    RowScale, RowType, RowsOf,
    lookup::{Indexed, Room, TOKENS, index_bytes},
    screen::{Basis, FirstTermsOf, PairsOf, PlaneOf, RowSums, Split, StatesOf},
};

#[path = "../examples/bench/probe.rs"]
mod probe;

/// Bytes that no cache holds.
const FAR: usize = 96 << 20;

/// Bytes that the second cache holds.
const NEAR: usize = 320 << 10;

fn codes(form: Form, bytes: usize, rng: &mut Rng) -> Vec<u8> {
    (0..bytes)
        .map(|_| match form.code {
            Code::Base3 => rng.u8(0..243),
            _ => (0..4).map(|f| rng.u8(0..3) << (2 * f)).sum(),
        })
        .collect()
}

/// A block repeated to about `bytes`.
fn repeated(block: &[u8], bytes: usize) -> Vec<u8> {
    block.repeat((bytes / block.len()).max(1))
}

/// Codes from the beginning of a cache line on, as the library holds them.
struct Aligned(Vec<i8>, usize);

impl Aligned {
    fn new(codes: &[i8]) -> Self {
        let mut bytes = vec![0; codes.len() + 63];
        let start = bytes.as_ptr().align_offset(64).min(63);
        bytes[start..start + codes.len()].copy_from_slice(codes);
        Self(bytes, start)
    }

    fn get(&self) -> &[i8] {
        &self.0[self.1..][..self.0.len() - 63]
    }
}

/// Random acts; their order within a block of tokens does not matter to time.
fn acts(tokens: usize, k: usize, rng: &mut Rng) -> (Vec<i8>, Vec<RowScale>, usize) {
    let stride = k.next_multiple_of(PAD);
    let codes = (0..tokens * stride).map(|_| rng.i8(-127..=127)).collect();
    (codes, vec![RowScale { step: 1.0, sum: 0 }; tokens], stride)
}

fn floats(n: usize, rng: &mut Rng) -> Vec<f32> {
    (0..n).map(|_| rng.f32() - 0.5).collect()
}

fn probes(_: &mut Criterion) {
    for threads in [1, 2] {
        let bandwidth = probe::read_bandwidth(threads, 1 << 30, 5) / 1e9;
        let (peak, name) = probe::dot_peak(threads, 5);
        println!("{threads} thread(s): reads {bandwidth:.1} GB/s, {name} {:.0} GMAC/s", peak / 1e9);
    }
}

fn dots(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(1);
    for table in Kernels::available() {
        let mut group = criterion.benchmark_group(format!("{}/dots", table.name()));
        for form in table.forms() {
            let k = 2560;
            let bytes = form.panel_bytes(k);
            let block = codes(*form, bytes, &mut rng);
            let scalar = table.name() == "scalar";
            for (tokens, place, size) in [
                (1, "near", NEAR),
                (1, "far", FAR),
                (2, "near", NEAR),
                (8, "near", NEAR),
                (128, "near", NEAR),
            ] {
                let panels = repeated(&block, if scalar { bytes } else { size });
                let (codes, rows, stride) = acts(tokens, k, &mut rng);
                let acts = Acts { codes: &codes, rows: &rows, stride, layout: table.layout() };
                let mut out = vec![0; tokens * form.rows()];
                group.throughput(if tokens == 1 {
                    Throughput::Bytes(panels.len() as u64)
                } else {
                    let rows = panels.len() / bytes * form.rows();
                    Throughput::Elements((rows * k * tokens) as u64)
                });
                let name = format!("{:?}x{}, {tokens} tokens, {place}", form.code, form.tiles);
                group.bench_function(name, |bencher| {
                    bencher.iter(|| {
                        for panel in panels.chunks_exact(bytes) {
                            table.dots(panel, *form, k, black_box(acts), &mut out);
                        }
                    });
                });
            }
        }
    }
}

/// Many rows by look-up, beside `dots` of as many tokens.
fn look_ups(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(3);
    let mut room = Room::new().expect("room");
    for table in Kernels::available().filter(|table| table.looks_up(TOKENS)) {
        let mut group = criterion.benchmark_group(format!("{}/look_up", table.name()));
        for form in table.forms() {
            let k = 2560;
            for (count, tokens) in [(256, 32), (512, 32), (1024, 32), (1024, 16)] {
                let panels = codes(*form, count / form.rows() * form.panel_bytes(k), &mut rng);
                let mut index = vec![0; index_bytes(count, k)];
                let (codes, rows, stride) = acts(tokens, k, &mut rng);
                let acts = Acts { codes: &codes, rows: &rows, stride, layout: table.layout() };
                let mut out = vec![0; tokens * count];
                group.throughput(Throughput::Elements((count * k * tokens) as u64));
                let name = format!("{:?}x{}, {count} rows, {tokens} tokens", form.code, form.tiles);
                table.index(&panels, *form, k, &mut index);
                group.bench_function(name.clone(), |bencher| {
                    let of = Indexed { index: &index, form: *form, rows: count, k };
                    bencher.iter(|| table.look_up(of, black_box(acts), 0, &mut room, &mut out));
                });
                if tokens == TOKENS {
                    group.throughput(Throughput::Bytes(panels.len() as u64));
                    group.bench_function(
                        format!("{:?}x{}, index of {count} rows", form.code, form.tiles),
                        |bencher| {
                            bencher.iter(|| table.index(black_box(&panels), *form, k, &mut index));
                        },
                    );
                }
            }
        }
    }
}

/// The feed-forward block of BitNet 2B, streamed from memory; bytes are those of what is read.
fn sparse(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(2);
    let (n, m) = (2560, 6912);
    let up = repeated(&codes(Form::ROWS, n / 4 * m, &mut rng), FAR);
    let panel = Form::COLUMNS.panel_bytes(m);
    let down = repeated(&codes(Form::COLUMNS, panel, &mut rng), FAR);
    for table in Kernels::available().skip(1) {
        let mut group = criterion.benchmark_group(format!("{}/sparse", table.name()));
        for percent in [10, 18, 32, 50, 100] {
            // Other rows in each matrix, so that no cache helps.
            let mut live: Vec<Vec<u32>> = Vec::new();
            for _ in up.chunks_exact(n / 4 * m) {
                live.push((0..m as u32).filter(|_| rng.u32(0..100) < percent).collect());
            }
            let acts: Vec<i8> = (0..n).map(|_| rng.i8(-127..=127)).collect();
            let mut out = vec![0; m];
            let count: usize = live.iter().map(Vec::len).sum();
            group.throughput(Throughput::Bytes((count * n / 4) as u64));
            group.bench_function(format!("rows, {percent} %"), |bencher| {
                bencher.iter(|| {
                    for (rows, live) in up.chunks_exact(n / 4 * m).zip(&live) {
                        let of = RowsOf { rows, k: n, acts: &acts, sum: 0 };
                        table.live_rows(black_box(of), live, &mut out[..live.len()]);
                    }
                });
            });
            let acts: Vec<i8> =
                (0..m).map(|_| i8::from(rng.u32(0..100) < percent) * rng.i8(1..=127)).collect();
            let (mut places, mut kept) = (vec![0; m], vec![0; m]);
            let live = Live::collect(&acts, &mut places, &mut kept);
            let panels = down.len() / panel;
            group.throughput(Throughput::Bytes((panels * live.places.len() * 64) as u64));
            group.bench_function(format!("columns, {percent} %"), |bencher| {
                bencher.iter(|| {
                    for panel in down.chunks_exact(panel) {
                        table.live_columns(panel, black_box(live), &mut out[..256]);
                    }
                });
            });
        }
    }
}

fn head(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(3);
    let k = 2560;
    let state = floats(k, &mut rng);
    let (mut first, mut second) = (vec![0; k], vec![0; k]);
    let (mut high, mut middle, mut low) = (vec![0; k / 2], vec![0; k / 4], vec![0; k / 4]);
    let planes = [&mut high[..], &mut middle, &mut low];
    let split = Split::new(&state, &mut first, &mut second);
    let bounds = vec![Kernels::best().split_row(&floats(k, &mut rng), planes); 256];
    for table in Kernels::available() {
        let mut group = criterion.benchmark_group(format!("{}/head", table.name()));
        for basis in [Basis::Nibbles, Basis::BothTerms, Basis::FirstTerm] {
            let (sums, mut out) = (vec![[1000; 2]; bounds.len()], vec![0.0; 2 * bounds.len()]);
            group.throughput(Throughput::Elements(bounds.len() as u64));
            group.bench_function(format!("limits, {basis:?}"), |bencher| {
                let (score, upper) = out.split_at_mut(bounds.len());
                let rows = RowSums { bounds: &bounds, sums: &sums, basis };
                bencher.iter(|| table.limits(&split, black_box(rows), score, upper));
            });
        }
        for (place, size) in [("near", NEAR), ("far", FAR)] {
            if table.name() == "scalar" && place == "far" {
                continue;
            }
            let plane = repeated(&high, size);
            let mut out = vec![[0; 2]; plane.len() / (k / 2)];
            group.throughput(Throughput::Bytes(plane.len() as u64));
            group.bench_function(format!("nibbles, {place}"), |bencher| {
                let of = PlaneOf { rows: &plane, k, codes: [&first, &second] };
                bencher.iter(|| table.nibbles(black_box(of), &mut out));
            });
            let plane = repeated(&middle, size);
            let live: Vec<u32> = (0..(plane.len() / (k / 4)) as u32).collect();
            let mut out = vec![0; live.len()];
            group.throughput(Throughput::Bytes(plane.len() as u64));
            group.bench_function(format!("pairs, {place}"), |bencher| {
                let of = PairsOf { rows: &plane, k, codes: &first };
                bencher.iter(|| table.pairs(black_box(of), &live, &mut out));
            });
            let rows = size / (3 * k / 4) / 128 * 128;
            let [high, middle] = [&high, &middle].map(|plane| plane.repeat(rows));
            for states in [1, 4, 8] {
                let codes = [&first, &second].map(|codes| Aligned::new(&codes.repeat(states)));
                let mut out = vec![[0; 2]; states * 128];
                group.throughput(Throughput::Elements((rows * states) as u64));
                group.bench_function(format!("states, {states}, {place}"), |bencher| {
                    let parts = high.chunks_exact(64 * k).zip(middle.chunks_exact(32 * k));
                    bencher.iter(|| {
                        for (high, middle) in black_box(parts.clone()) {
                            let codes = codes.each_ref().map(Aligned::get);
                            table.states(StatesOf { high, middle, k, codes }, &mut out);
                        }
                    });
                });
                let codes = codes[0].get();
                group.bench_function(format!("first terms, {states}, {place}"), |bencher| {
                    let parts = high.chunks_exact(64 * k).zip(middle.chunks_exact(32 * k));
                    bencher.iter(|| {
                        for (high, middle) in black_box(parts.clone()) {
                            table.first_terms(FirstTermsOf { high, middle, k, codes }, &mut out);
                        }
                    });
                });
            }
            for kind in [RowType::F32, RowType::F16, RowType::Bf16, RowType::Q8_0, RowType::Q6K] {
                let bytes = kind.row_bytes(k).expect("whole blocks");
                let row: Vec<u8> = (0..bytes).map(|i| (i % 61) as u8).collect();
                let rows = repeated(&row, size);
                for inputs in [1, 8] {
                    let input = floats(inputs * k, &mut rng);
                    let mut out = vec![0.0; rows.len() / bytes * inputs];
                    let name = format!("{kind:?}, {inputs} inputs, {place}");
                    group.throughput(Throughput::Bytes(rows.len() as u64));
                    group.bench_function(name, |b| {
                        b.iter(|| table.row_dots(black_box(&rows), kind, &input, k, &mut out));
                    });
                }
            }
        }
    }
}

/// One block of 64 positions; elements are the multiply-adds of scores and values.
fn attention(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(4);
    let dim = 128;
    let halves: Vec<f16> = floats(dim * BLOCK, &mut rng).into_iter().map(f16::from_f32).collect();
    let bytes: Vec<i8> = (0..dim * BLOCK).map(|_| rng.i8(-127..=127)).collect();
    let steps = floats(BLOCK, &mut rng);
    let half = KvBlock::F16 { keys: &halves, values: &halves };
    let byte = KvBlock::I8 { keys: &bytes, values: &bytes, key_steps: &steps, value_steps: &steps };
    for table in Kernels::available() {
        let mut group = criterion.benchmark_group(format!("{}/attend", table.name()));
        for n in [1, 4, 64] {
            let (queries, lens) = (floats(n * dim, &mut rng), vec![BLOCK; n]);
            let (mut max, mut sum) = (vec![f32::NEG_INFINITY; n], vec![0.0; n]);
            let mut acc = vec![0.0; n * dim];
            group.throughput(Throughput::Elements((n * BLOCK * dim * 2) as u64));
            for (name, block) in [("f16", half), ("i8", byte)] {
                group.bench_function(format!("{name}, {n} queries"), |bencher| {
                    bencher.iter(|| {
                        let mut state =
                            Online { max: &mut max, sum: &mut sum, acc: &mut acc, next: 0 };
                        table.attend(black_box(&queries), block, &lens, &mut state);
                    });
                });
            }
        }
    }
}

fn float_steps(criterion: &mut Criterion) {
    let mut rng = Rng::with_seed(5);
    let n = 2560;
    let (x, y) = (floats(n, &mut rng), floats(n, &mut rng));
    let dots: Vec<i32> = (0..n as i32).collect();
    let (mut out, mut codes) = (vec![0.0; n], vec![0; n]);
    let row = [RowScale { step: 0.5, sum: 0 }];
    for table in Kernels::available() {
        let mut group = criterion.benchmark_group(format!("{}/float", table.name()));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function("rms_norm", |b| b.iter(|| table.rms_norm(&x, &y, 1e-5, &mut out)));
        group.bench_function("quantize", |b| b.iter(|| table.quantize(black_box(&x), &mut codes)));
        group.bench_function("rescale", |b| b.iter(|| table.rescale(&dots, &y, &row, n, &mut out)));
        group.bench_function("rescale, panels", |b| {
            let rows = vec![row[0]; n / 32];
            b.iter(|| table.rescale(&dots, &y[..32], &rows, 32, &mut out));
        });
        group.bench_function("relu2_mul", |b| b.iter(|| table.relu2_mul(&x, &y, &mut out)));
        group.bench_function("silu_mul", |b| b.iter(|| table.silu_mul(&x, &y, &mut out)));
        group.bench_function("gather", |b| {
            let of = PanelRows { values: black_box(&y), panel: n, tokens: 1 };
            b.iter(|| table.gather(of, (0, 0), Put::Onto, n, &mut out));
        });
        group.bench_function("rotate", |b| {
            b.iter(|| table.rotate(&mut out, 128, Pairs::Half, black_box(&y[..128])));
        });
        for tokens in [1, 4, 8] {
            let rows = floats(tokens * n, &mut rng);
            let (mut codes, mut scales) = (vec![0; tokens * n], vec![RowScale::default(); tokens]);
            let of = Inputs { rows: &rows, width: n, gain: Some(&y), eps: 1e-5 };
            if tokens > table.layout().block || !table.inputs(of, &mut codes, &mut scales) {
                continue;
            }
            group.bench_function(format!("inputs, {tokens} tokens"), |b| {
                b.iter(|| table.inputs(black_box(of), &mut codes, &mut scales));
            });
        }
        let (mut max, mut sum) = (0.5, 1.0);
        group.bench_function("merge", |b| {
            b.iter(|| table.merge(&mut max, &mut sum, &mut out, 0.5, 0.25, black_box(&y)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    targets = probes, dots, look_ups, sparse, head, attention, float_steps
}
criterion_main!(benches);
