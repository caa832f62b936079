//! The packed form of a model: the same logits, on every table, from a map.

#[path = "common/tiny.rs"]
#[expect(dead_code, unused_imports, reason = "one kind of model is made here")]
mod tiny;

use half::f16;
use tern::{
    Cancel, Error,
    context::{Context, ContextOptions, EvalOptions},
    file::Source,
    kernels::Kernels,
    model::{LoadOptions, Model},
    tensor::DType,
};
use tiny::Plan;

fn load(path: &std::path::Path, kernels: &str) -> Result<Model, Error> {
    Model::open(
        path,
        LoadOptions { kernels: Some(kernels.into()), verify: true, ..LoadOptions::default() },
    )
}

fn logits(model: &Model) -> Vec<u32> {
    let mut context = Context::new(model, ContextOptions::default()).expect("small");
    context.eval(&[1, 2, 3, 400, 5, 6, 7], EvalOptions::default()).expect("fits");
    context.logits(0).expect("kept").iter().map(|x| x.to_bits()).collect()
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("tern-packed-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn a_packed_file_has_the_same_logits_on_every_table() {
    let folder = folder("tables");
    for name in ["examples/models/seed-s.gguf", "tests/data/oracle/tiny-b158-i2s.gguf"] {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let want = logits(&load(&source, "scalar").expect("loads"));
        for writer in Kernels::available() {
            let path = folder.join("packed.gguf");
            let mut told = Vec::new();
            let mut progress = |fraction: f32| {
                told.push(fraction);
                true
            };
            let model = load(&source, writer.name()).expect("loads");
            model.convert(&path, Some(&mut progress), None).expect("converts");
            assert!(told.is_sorted() && told.last() == Some(&1.0), "{told:?}");
            for reader in Kernels::available() {
                let model = load(&path, reader.name()).expect("loads");
                assert!(
                    logits(&model) == want,
                    "{name}: written by {}, read by {}",
                    writer.name(),
                    reader.name()
                );
                let layer = &model.weights().expect("weights").layers[0];
                let same = reader.forms().contains(&layer.q.form());
                assert!(same, "{} got {:?}", reader.name(), layer.q.form());
                if writer.name() == reader.name() {
                    assert!(layer.q.is_mapped(), "{} packs again what it wrote", reader.name());
                }
            }
            // A packed model converts again, to the same bytes.
            let again = folder.join("again.gguf");
            load(&path, writer.name())
                .expect("loads")
                .convert(&again, None, None)
                .expect("converts");
            assert!(
                std::fs::read(&path).expect("there") == std::fs::read(&again).expect("there"),
                "{}",
                writer.name()
            );
        }
    }
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn cancelled_conversions_leave_the_file_and_bad_codes_are_found() {
    let folder = folder("cancel");
    let source =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models/seed-s.gguf");
    let model = load(&source, Kernels::best().name()).expect("loads");
    let path = folder.join("packed.gguf");
    std::fs::write(&path, "what was there").expect("writes");
    let cancel = Cancel::new();
    cancel.set();
    assert!(matches!(model.convert(&path, None, Some(&cancel)), Err(Error::Cancelled)));
    let mut refuse = |_: f32| false;
    assert!(matches!(model.convert(&path, Some(&mut refuse), None), Err(Error::Cancelled)));
    assert_eq!(std::fs::read(&path).expect("there"), b"what was there");
    assert_eq!(std::fs::read_dir(&folder).expect("there").count(), 1, "nothing is left beside it");
    model.convert(&path, None, None).expect("converts");
    let mut bytes = std::fs::read(&path).expect("there");
    let tensor = model.gguf().tensor("blk.3.ffn_down.weight").expect("there").clone();
    let packed = load(&path, Kernels::best().name()).expect("loads");
    let at = packed.gguf().tensor(&tensor.name).expect("there").offset as usize;
    drop(packed); // some systems let nobody write to a mapped file
    bytes[at + 5] = 0xff;
    std::fs::write(&path, &bytes).expect("writes");
    let error = load(&path, Kernels::best().name()).expect_err("no trits").to_string();
    assert!(error.contains("blk.3.ffn_down"), "{error}");
    let vocab = Model::open(&source, LoadOptions { vocab_only: true, ..LoadOptions::default() })
        .expect("loads");
    assert!(matches!(vocab.convert(&path, None, None), Err(Error::InvalidState(_))));
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn rows_keep_scales_of_their_own_and_one_scale_is_written_once() {
    let folder = folder("scales");
    let path = folder.join("packed.gguf");
    let mut bytes = tiny::bytes(&Plan { ternary: DType::TQ2_0, ..Plan::default() });
    let open = |bytes: &[u8]| {
        Model::from_source(Source::from_memory(bytes.to_vec()), LoadOptions::default())
    };
    let plain = open(&bytes).expect("loads");
    let tensor = plain.gguf().tensor("blk.1.attn_q.weight").expect("there");
    // The third row twice as large: blocks of 64 bytes of codes and a scale.
    let row = tensor.shape.columns() as usize / 256 * 66;
    let at = tensor.range().start as usize + 2 * row;
    for block in bytes[at..at + row].chunks_exact_mut(66) {
        let scale = 2.0 * f16::from_le_bytes([block[64], block[65]]).to_f32();
        block[64..].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    }
    let model = open(&bytes).expect("loads");
    let want = logits(&model);
    assert!(want != logits(&plain), "the row counts");
    model.convert(&path, None, None).expect("converts");
    let packed = load(&path, Kernels::best().name()).expect("loads");
    assert!(logits(&packed) == want, "packed");
    let scales = |name: &str| packed.gguf().tensor(name).expect("there").clone();
    assert_eq!(scales("blk.1.attn_q.scale").shape.columns(), tensor.shape.rows());
    assert_eq!(scales("blk.0.attn_q.scale").shape.columns(), 1);
    // A load maps what lies before the scales and copies the rest.
    let (copied, mapped): (Vec<_>, Vec<_>) =
        packed.gguf().tensors.iter().partition(|tensor| tensor.shape.rows() == 1);
    let last = mapped.iter().map(|tensor| tensor.offset).max();
    assert!(copied.len() > 14 && last < copied.iter().map(|tensor| tensor.offset).min());
    let at = scales("blk.1.attn_q.scale").range().start as usize + 4 * 5;
    drop(packed); // some systems let nobody write to a mapped file
    let mut spoiled = std::fs::read(&path).expect("there");
    for (scale, rule) in [(-0.5f32, "from 0 up"), (f32::NAN, "a number")] {
        spoiled[at..at + 4].copy_from_slice(&scale.to_le_bytes());
        std::fs::write(&path, &spoiled).expect("writes");
        let error = load(&path, Kernels::best().name()).expect_err("no scale").to_string();
        let names = error.contains("blk.1.attn_q.scale") && error.contains("value 5");
        assert!(names && error.contains(rule), "{error}");
    }
    std::fs::remove_dir_all(folder).expect("ours");
}
