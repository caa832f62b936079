//! Small seeded models of any shape, by the code of `examples/synth`.

#[path = "../../examples/synth/fill.rs"]
mod fill;
#[path = "../../examples/synth/model.rs"]
mod model;
#[path = "../../examples/synth/vocab.rs"]
mod vocab;

pub(crate) use model::{Plan, TEMPLATE};
pub(crate) use vocab::Vocabulary;

/// The model file that a plan describes, vocabulary made up.
pub(crate) fn bytes(plan: &Plan) -> Vec<u8> {
    bytes_with(plan, plan.vocab as usize)
}

/// The same with a vocabulary of another size than the plan's.
pub(crate) fn bytes_with(plan: &Plan, vocab: usize) -> Vec<u8> {
    let vocabulary = Vocabulary::made_up(vocab);
    plan.write(Vec::new(), &vocabulary, |_, _| {}).expect("a test's plan has a valid shape")
}
