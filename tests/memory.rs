//! Memory as a contract: the plan is what is used.

use tern::{
    context::{Context, ContextOptions, EvalOptions, KvType, MemoryPlan},
    kernels::Kernels,
    model::{LoadOptions, Model},
};

fn check(path: &std::path::Path, load: impl Fn() -> LoadOptions<'static>, options: ContextOptions) {
    let plan = MemoryPlan::for_file(path, &load(), options.clone()).expect("plans");
    let model = Model::open(path, load()).expect("loads");
    let mut context = Context::new(&model, options.clone()).expect("small");
    for sequence in 0..context.options().n_seq_max {
        let tokens = vec![1; context.options().n_ctx];
        context.eval(&tokens, EvalOptions { sequence, ..EvalOptions::default() }).expect("fits");
        context.logits(0).expect("kept");
    }
    let used = context.memory().expect("counted");
    let near = |what: &str, plan: u64, used: u64| {
        assert!(
            plan.abs_diff(used) * 100 <= used * 3,
            "{what}: planned {plan}, used {used} ({}, {options:?})",
            path.display()
        );
    };
    near("mapped", plan.weights_mapped, used.weights_mapped);
    near("heap", plan.weights_heap, used.weights_heap);
    near("kv", plan.kv, used.kv);
    near("scratch", plan.scratch, used.scratch);
}

#[test]
fn a_plan_is_within_three_percent_of_what_is_used() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let packed = std::env::temp_dir().join(format!("tern-memory-{}.gguf", std::process::id()));
    let seed = root.join("examples/models/seed-s.gguf");
    Model::open(&seed, LoadOptions::default())
        .expect("loads")
        .convert(&packed, None, None)
        .expect("converts");
    for path in [seed, root.join("tests/data/oracle/tiny-b158-i2s.gguf"), packed.clone()] {
        for options in [
            ContextOptions::default(),
            ContextOptions {
                n_ctx: 100,
                n_seq_max: 3,
                kv_type: KvType::I8,
                n_batch: 16,
                ..Default::default()
            },
        ] {
            check(&path, LoadOptions::default, options.clone());
            check(&path, || LoadOptions { no_mmap: true, ..Default::default() }, options);
        }
        for table in Kernels::available() {
            let options = ContextOptions { n_ctx: 70, n_batch: 32, ..Default::default() };
            let kernels = || Some(table.name().into());
            check(&path, || LoadOptions { kernels: kernels(), ..Default::default() }, options);
        }
    }
    std::fs::remove_file(packed).expect("ours");
}
