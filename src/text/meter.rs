//! Bounds what a template may cost.
//!
//! The template engine counts its instructions (fuel), but one instruction may
//! double a string, repeat it a million times or print a list that holds
//! itself. So the compiled instructions are rewritten: what makes, joins,
//! compares or prints values calls a function here first, which takes the
//! bytes out of a budget.
//!
//! ```text
//! a ~ b   a + b   a * n     →  a call of `~`, `+`, `*`: names that no template can write
//! [a, b]  {a: b}  a[1:2]    →  the same, then `_made`: charged, and not nested deeper than DEPTH_MAX
//! ns.x = a                  →  `_kept` on the value first: no namespace inside a namespace
//! a == b  a in b            →  `_read` on the right side first
//! text                      →  if long, printed as a value is, which is charged too
//! ```

use minijinja::{
    Environment, Error, ErrorKind, Value,
    machinery::{CompiledTemplate, Instruction, Instructions},
    value::ValueKind,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How deep lists and maps may nest. Messages are two deep.
const DEPTH_MAX: usize = 24;
/// What an element of a list counts, in bytes.
const ELEMENT: u64 = 32;
/// Text of a template up to this many bytes is paid by the instruction that prints it.
const FREE_TEXT: usize = 64;

/// What is left of a template's budget, in bytes.
#[derive(Debug)]
pub(super) struct Meter(AtomicU64);

impl Meter {
    pub(super) fn new(budget: u64) -> Arc<Meter> {
        Arc::new(Meter(AtomicU64::new(budget)))
    }

    /// Takes bytes out of the budget.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), Error> {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        if left < bytes { Err(refused("the template makes too much text")) } else { Ok(()) }
    }

    /// Charges a string's bytes or a list's elements.
    pub(super) fn charge_flat(&self, value: &Value) -> Result<(), Error> {
        let bytes = match value.as_str() {
            Some(text) => text.len() as u64,
            None => value.len().unwrap_or(0) as u64 * ELEMENT,
        };
        self.charge(bytes + 1)
    }

    /// Charges a value with all that is in it, as if it were printed.
    pub(super) fn charge_deep(&self, value: &Value) -> Result<(), Error> {
        self.walk(value, 0, &|text| text.len() as u64 + 2)
    }

    /// Charges a new value, whose parts exist already, and sees how deep it nests.
    fn charge_made(&self, value: &Value) -> Result<(), Error> {
        self.charge_flat(value)?;
        self.walk(value, 0, &|_| 1)
    }

    fn walk(&self, value: &Value, depth: usize, string: &dyn Fn(&str) -> u64) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(refused("the template nests values too deep"));
        }
        self.charge(value.as_str().map_or(1, string))?;
        match value.kind() {
            ValueKind::Map => value.try_iter()?.try_for_each(|key| {
                self.walk(&key, depth + 1, string)?;
                self.walk(&value.get_item(&key)?, depth + 1, string)
            }),
            ValueKind::Seq | ValueKind::Iterable => {
                value.try_iter()?.try_for_each(|item| self.walk(&item, depth + 1, string))
            }
            _ => Ok(()),
        }
    }
}

/// An error that stops the rendering.
pub(super) fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// Adds the functions that rewritten instructions call.
pub(super) fn install(env: &mut Environment<'_>, meter: &Arc<Meter>) {
    let on = |run: fn(&Meter, &Value) -> Result<(), Error>| {
        let meter = meter.clone();
        move |value: &Value| -> Result<Value, Error> {
            run(&meter, value)?;
            Ok(value.clone())
        }
    };
    env.add_global("_made", Value::from_function(on(Meter::charge_made)));
    env.add_global("_read", Value::from_function(on(Meter::charge_deep)));
    env.add_global(
        "_kept",
        Value::from_function(on(|_, value| match is_namespace(value) {
            true => Err(refused("a namespace cannot be kept in a namespace")),
            false => Ok(()),
        })),
    );
    let meter_of = meter.clone();
    env.add_global(
        "~",
        Value::from_function(move |a: &Value, b: &Value| {
            meter_of.charge_deep(a)?;
            meter_of.charge_deep(b)?;
            Ok::<_, Error>(Value::from(format!("{a}{b}")))
        }),
    );
    let meter_of = meter.clone();
    env.add_global("+", Value::from_function(move |a: &Value, b: &Value| add(&meter_of, a, b)));
    let meter_of = meter.clone();
    env.add_global(
        "*",
        Value::from_function(move |a: &Value, b: &Value| multiply(&meter_of, a, b)),
    );
}

fn add(meter: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    let list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        meter.charge((a.len() + b.len()) as u64 + 1)?;
        Ok(Value::from([a, b].concat()))
    } else if list(a) && list(b) {
        meter.charge_flat(a)?;
        meter.charge_flat(b)?;
        Ok(a.try_iter()?.chain(b.try_iter()?).collect())
    } else {
        evaluate("a + b", a, b)
    }
}

fn multiply(meter: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    let number = |value: &Value| value.kind() == ValueKind::Number;
    let (body, count) = if number(a) { (b, a) } else { (a, b) };
    if let (false, Some(count)) = (number(body), count.as_usize()) {
        let unit = match body.as_str() {
            Some(text) => text.len() as u64,
            None => body.len().unwrap_or(1) as u64 * ELEMENT,
        };
        meter.charge(unit.saturating_mul(count as u64).saturating_add(1))?;
    }
    evaluate("a * b", a, b)
}

/// What the engine itself makes of an operation on numbers and the rest.
fn evaluate(expression: &'static str, a: &Value, b: &Value) -> Result<Value, Error> {
    let env = Environment::empty();
    env.compile_expression(expression)?.eval(minijinja::context! { a => a, b => b })
}

/// Rewrites a compiled template so that every costly instruction is charged.
pub(super) fn rewrite(template: &mut CompiledTemplate<'_>) {
    template.instructions = rewritten(&template.instructions);
    for block in template.blocks.values_mut() {
        *block = rewritten(block);
    }
}

fn rewritten<'a>(code: &Instructions<'a>) -> Instructions<'a> {
    let all = || (0..code.len() as u32).filter_map(|at| Some((at, code.get(at)?)));
    // Where each instruction comes to stand.
    let mut places = Vec::with_capacity(code.len() + 1);
    let mut place = 0;
    for (_, instruction) in all() {
        places.push(place);
        place += expanded(instruction).len() as u32;
    }
    places.push(place);
    let moved = |at: u32| places.get(at as usize).copied().unwrap_or(place);
    let mut out = Instructions::new(code.name(), code.source());
    for (at, instruction) in all() {
        for mut instruction in expanded(instruction) {
            if let Some(target) = target(&mut instruction) {
                *target = moved(*target);
            }
            match (code.get_span(at), code.get_line(at)) {
                (Some(span), _) => out.add_with_span(instruction, span),
                (None, Some(line)) => out.add_with_line(instruction, line as u16),
                (None, None) => out.add(instruction),
            };
        }
    }
    out
}

/// The instruction that a jump, a loop or a macro names.
fn target<'i>(instruction: &'i mut Instruction<'_>) -> Option<&'i mut u32> {
    match instruction {
        Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) => Some(target),
        _ => None,
    }
}

fn expanded<'a>(instruction: &Instruction<'a>) -> Vec<Instruction<'a>> {
    use Instruction::{CallFunction, DiscardTop, DupTop, Swap};
    let this = instruction.clone();
    match instruction {
        Instruction::StringConcat => vec![CallFunction("~", Some(2))],
        Instruction::Add => vec![CallFunction("+", Some(2))],
        Instruction::Mul => vec![CallFunction("*", Some(2))],
        Instruction::BuildList(_) | Instruction::BuildMap(_) | Instruction::Slice => {
            vec![this, CallFunction("_made", Some(1))]
        }
        Instruction::SetAttr(_) => vec![Swap, CallFunction("_kept", Some(1)), Swap, this],
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::In
        | Instruction::CompareAndPreserve(_) => {
            vec![DupTop, CallFunction("_read", Some(1)), DiscardTop, this]
        }
        Instruction::EmitRaw(text) if text.len() > FREE_TEXT => {
            vec![Instruction::LoadConst(Value::from(*text)), Instruction::Emit]
        }
        _ => vec![this],
    }
}
