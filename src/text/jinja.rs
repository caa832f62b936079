//! The template engine as Hugging Face sets it up, within bounds.
//!
//! `trim_blocks` and `lstrip_blocks` are on, Python's string methods work, and
//! `raise_exception`, `strftime_now` and `tojson` exist. Filters that no chat
//! template uses and that could not be charged are left out.

use super::{
    json,
    meter::{self, Meter, refused},
};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, Value, escape_formatter,
    machinery::{
        CompiledTemplate, TemplateConfig, Token, Vm, WhitespaceConfig, make_string_output, tokenize,
    },
    value::{Kwargs, Rest, from_args},
};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Largest template, in bytes and in lines; the longest line. Real ones have
/// some kilobytes, and the engine counts lines and columns in sixteen bits.
pub(super) const SOURCE_MAX: usize = 256 << 10;
const LINES_MAX: usize = 60_000;
/// Most symbols between `{{` and `}}`: the engine's stack grows with them.
const SYMBOLS_MAX: usize = 2048;
/// Most `elif`, which nest.
const ELIF_MAX: usize = 256;
/// Most that a literal string may be repeated, since the engine does it while it compiles.
const REPEAT_MAX: u64 = 4096;
/// Bytes that a template may make, and how many for each byte of its input.
const BUDGET: u64 = 64 << 20;
const BUDGET_PER_BYTE: u64 = 64;
/// Instructions that a template may run, and how many for each message.
const FUEL: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 5_000;

/// Filters of the engine that look at their input, or change as many bytes as it has.
const FLAT_FILTERS: &[&str] = &[
    "abs",
    "attr",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "e",
    "escape",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "split",
    "sum",
    "title",
    "trim",
    "upper",
];
/// Filters that may copy what lies in their input.
const DEEP_FILTERS: &[&str] = &["dictsort", "groupby", "indent", "map", "sort", "string", "unique"];
/// Filters left out: `replace`, `join` and `tojson` are made here, the others refused.
const OWN_OR_REFUSED: &[&str] = &[
    "replace",
    "join",
    "tojson",
    "batch",
    "slice",
    "chain",
    "zip",
    "pprint",
    "format",
    "urlencode",
];

/// Why a rendering failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The template called `raise_exception` with this text.
    Raised(String),
    /// Anything else, with the line.
    Template(String),
}

/// Renders a template, or only compiles it if there is no input. Needs a deep stack.
pub(super) fn run(source: &str, input: Option<(Value, u64, u64)>) -> Result<String, Failure> {
    let raised = Arc::new(Mutex::new(None));
    let result = check(source).and_then(|()| execute(source, input, &raised));
    result.map_err(|error| {
        let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
        raised.map_or_else(|| Failure::Template(describe(&error)), Failure::Raised)
    })
}

fn describe(error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    match error.detail() {
        Some(detail) => format!("{line}{}: {detail}", error.kind()),
        None => format!("{line}{}", error.kind()),
    }
}

fn whitespace() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

/// Refuses what would overflow the stack or the memory of the compiler.
fn check(source: &str) -> Result<(), Error> {
    let syntax = |what: String| Err(Error::new(ErrorKind::SyntaxError, what));
    let (lines, longest) =
        source.lines().fold((0, 0), |(lines, longest), line| (lines + 1, line.len().max(longest)));
    if lines > LINES_MAX || longest > LINES_MAX {
        return syntax(format!(
            "{lines} lines, the longest of {longest} bytes; at most {LINES_MAX} of both are read"
        ));
    }
    let (mut symbols, mut elifs) = (0, 0);
    let mut recent: [Token<'_>; 3] = std::array::from_fn(|_| Token::Comma);
    for token in tokenize(source, false, Default::default(), whitespace()) {
        let (token, span) = token?;
        symbols += 1;
        match &token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => symbols = 0,
            Token::Ident("elif") => elifs += 1,
            _ => {}
        }
        if symbols > SYMBOLS_MAX || elifs > ELIF_MAX {
            return syntax(format!(
                "line {}: an expression or a chain of elif is too long",
                span.start_line
            ));
        }
        let [before, left, star] = &recent;
        if matches!(star, Token::Mul) && !may_multiply(before, left, &token) {
            return syntax(format!(
                "line {}: a constant product; only names can be multiplied",
                span.start_line
            ));
        }
        recent.rotate_left(1);
        recent[2] = token;
    }
    Ok(())
}

/// Whether the compiler, which computes constants, can be given `left * right`:
/// `'x' * 99999999` must not reach it, nor a chain that grows as large.
fn may_multiply(before: &Token<'_>, left: &Token<'_>, right: &Token<'_>) -> bool {
    let name = |token: &Token<'_>| matches!(token, Token::Ident(_));
    let number = |token: &Token<'_>| matches!(token, Token::Int(_) | Token::Float(_));
    let text = matches!(left, Token::Str(_) | Token::String(_))
        && matches!(right, Token::Int(..=REPEAT_MAX));
    !matches!(before, Token::Mul)
        && (name(left) || name(right) || number(left) && number(right) || text)
}

fn execute(
    source: &str,
    input: Option<(Value, u64, u64)>,
    raised: &Arc<Mutex<Option<String>>>,
) -> Result<String, Error> {
    let config = TemplateConfig {
        syntax_config: Default::default(),
        ws_config: whitespace(),
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    let mut template = CompiledTemplate::new("chat template", source, &config)?;
    let Some((root, bytes, messages)) = input else { return Ok(String::new()) };
    meter::rewrite(&mut template);
    let meter = Meter::new(BUDGET.saturating_add(bytes.saturating_mul(BUDGET_PER_BYTE)));
    let mut env = environment(&meter, raised);
    env.set_fuel(Some(FUEL.saturating_add(messages.saturating_mul(FUEL_PER_MESSAGE))));
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    Vm::new(&env).eval(
        &template.instructions,
        root,
        &template.blocks,
        &mut output,
        AutoEscape::None,
    )?;
    drop(output);
    Ok(text)
}

fn environment(meter: &Arc<Meter>, raised: &Arc<Mutex<Option<String>>>) -> Environment<'static> {
    let mut env = Environment::new();
    meter::install(&mut env, meter);
    for name in OWN_OR_REFUSED {
        env.remove_filter(name);
    }
    env.remove_global("debug");
    // In Python None is no iterable, and what is undefined has no length.
    env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    for name in FLAT_FILTERS {
        wrap(&mut env, meter, name, Meter::charge_flat);
    }
    for name in DEEP_FILTERS {
        wrap(&mut env, meter, name, Meter::charge_deep);
    }
    let of = meter.clone();
    env.add_filter("tojson", move |value: Value, options: Kwargs| {
        of.charge_deep(&value)?;
        let indent: Option<usize> = options.get("indent")?;
        options.get::<Option<Value>>("ensure_ascii")?;
        options.get::<Option<Value>>("sort_keys")?;
        options.get::<Option<Value>>("separators")?;
        options.assert_all_used()?;
        json::python(&value, indent, &of)
    });
    let of = meter.clone();
    env.add_filter("join", move |list: Value, separator: Option<&str>| {
        join(&of, &list, separator.unwrap_or(""))
    });
    let of = meter.clone();
    env.add_filter("replace", move |text: &str, from: &str, to: &str| {
        replace(&of, text, from, to, None)
    });
    let raised = raised.clone();
    env.add_function("raise_exception", move |message: String| -> Result<Value, Error> {
        *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        Err(refused("raise_exception"))
    });
    env.add_function("strftime_now", |format: &str| {
        super::date::format(format, super::date::now())
    });
    let of = meter.clone();
    env.set_unknown_method_callback(move |state, value, method, args| {
        call(&of, state, value, method, args)
    });
    let of = meter.clone();
    env.set_formatter(move |out, state, value| {
        of.charge_deep(value)?;
        escape_formatter(out, state, value)
    });
    env
}

/// Puts a charge before and after a filter of the engine.
fn wrap(
    env: &mut Environment<'static>,
    meter: &Arc<Meter>,
    name: &'static str,
    charge: fn(&Meter, &Value) -> Result<(), Error>,
) {
    let meter = meter.clone();
    env.add_filter(name, move |_: &State<'_, '_>, args: Rest<Value>| -> Result<Value, Error> {
        args.iter().try_for_each(|arg| charge(&meter, arg))?;
        if matches!(name, "length" | "count") && args.first().is_some_and(Value::is_undefined) {
            return Ok(Value::from(0));
        }
        let width = args.get(1).and_then(Value::as_usize).unwrap_or(0);
        if name == "indent" && width > 1000 {
            return Err(refused("an indentation of more than 1000"));
        } else if name == "indent" {
            // Each line may be as short as its end.
            let lines = args[0].as_str().map_or(0, |text| text.lines().count());
            meter.charge((lines * width) as u64)?;
        }
        let result = originals().empty_state().apply_filter(name, &args)?;
        meter.charge_flat(&result)?;
        Ok(result)
    });
}

/// The engine's own filters, without those that multiply.
fn originals() -> &'static Environment<'static> {
    static ORIGINALS: OnceLock<Environment<'static>> = OnceLock::new();
    ORIGINALS.get_or_init(|| {
        let mut env = Environment::new();
        for name in OWN_OR_REFUSED {
            env.remove_filter(name);
        }
        env
    })
}

/// Python's methods of strings, lists and dictionaries.
fn call(
    meter: &Meter,
    state: &State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    meter.charge_flat(value)?;
    args.iter().try_for_each(|arg| meter.charge_flat(arg))?;
    match (value.as_str(), method) {
        (Some(text), "replace") => {
            let (from, to, count): (&str, &str, Option<usize>) = from_args(args)?;
            return replace(meter, text, from, to, count);
        }
        (Some(text), "join") => {
            let (list,): (Value,) = from_args(args)?;
            return join(meter, &list, text);
        }
        (Some(_), "format") => {
            return Err(refused("the method format is not supported in templates; use ~"));
        }
        _ => {}
    }
    let result = unknown_method_callback(state, value, method, args)?;
    meter.charge_flat(&result)?;
    Ok(result)
}

fn join(meter: &Meter, list: &Value, separator: &str) -> Result<Value, Error> {
    meter.charge_deep(list)?;
    let mut text = String::new();
    for (index, item) in list.try_iter()?.enumerate() {
        if index > 0 {
            meter.charge(separator.len() as u64)?;
            text.push_str(separator);
        }
        match item.as_str() {
            Some(item) => text.push_str(item),
            None => text.push_str(&item.to_string()),
        }
    }
    Ok(Value::from(text))
}

fn replace(
    meter: &Meter,
    text: &str,
    from: &str,
    to: &str,
    count: Option<usize>,
) -> Result<Value, Error> {
    let found = text.matches(from).take(count.unwrap_or(usize::MAX)).count();
    meter.charge(
        (text.len() as u64).saturating_add((found as u64).saturating_mul(to.len() as u64)),
    )?;
    Ok(Value::from(text.replacen(from, to, found)))
}
