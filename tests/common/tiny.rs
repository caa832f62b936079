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
    let vocabulary = Vocabulary::made_up(plan.vocab as usize);
    plan.write(Vec::new(), &vocabulary, |_, _| {}).expect("a test's plan has a valid shape")
}
