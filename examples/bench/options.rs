//! The command line: what is measured, over which settings.

use super::args::{Args, shipped_model};
use std::{error::Error, path::PathBuf, str::FromStr};
use tern::{context::KvType, kernels::Code, model::Packing, threads::performance_cores};

/// Said for a command line that cannot be.
pub(crate) const USAGE: &str =
    "usage: bench [-m MODEL]... [OPTIONS]      measure, and print a table
       bench [-o md|json] FILE...           print what --save wrote
       bench --plot FOLDER FILE...          draw it
       bench --probe LIST                   what so many threads can do now, and nothing else

what (lists are N,N,...; 0 or an empty list leaves a test out)
  -p LIST            prompt lengths to read                       [512]
  -n LIST            tokens to generate                           [128]
  --trunk LIST       tokens for the ternary products alone
  --first LIST       prompt lengths for the first token of a cold process
  --memory LIST      context lengths to fill in a process of its own, for its memory
over
  -m MODEL           a GGUF file; may be repeated                 [the one that ships]
  -t LIST            threads                                      [the fast cores]
  -b LIST            tokens of one pass over the weights          [128]
  -d LIST            tokens in the context already                [0]
  -s LIST            sequences that generate together             [1]
  --choose LIST      greedy, chain, softmax: how tokens are chosen [greedy,chain,softmax]
  --head LIST        full: every row in full precision; exact: rows that six and then eight bits do not rule out;
                     fast: rows that four bits do not      [exact]
  --form LIST        auto, bits2, base3: how dense weights lie    [auto]
  --skip LIST        auto, yes, no: leave out what zeros make irrelevant [auto]
  --table LIST       kernel tables by name                        [the fastest]
  --cache LIST       f16, i8                                      [f16]
how
  -f FILE            take the prompt from a text, not at random
  -r N               runs that count, for each figure             [5]
  --tries N          runs at most; the probes decide which count  [3 for each of -r]
  -o md|json         what is printed                              [md]
  --save FILE        write the JSON there too";

/// How a token is chosen: what it asks of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choose {
    /// The best token.
    Greedy,
    /// The chain that suits 2B4T: it begins with top-k 40.
    Chain,
    /// A draw among the whole vocabulary.
    Softmax,
}

impl Choose {
    /// Its name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Choose::Greedy => "greedy",
            Choose::Chain => "chain",
            Choose::Softmax => "softmax",
        }
    }
}

impl FromStr for Choose {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Choose::Greedy, Choose::Chain, Choose::Softmax]
            .into_iter()
            .find(|choose| choose.name() == text)
            .ok_or(())
    }
}

/// How the head is read for a choice that few of its rows decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// All rows in full precision.
    Full,
    /// Rows that bounds from eight bits a weight leave.
    Exact,
    /// Rows that likely bounds from four bits leave.
    Fast,
}

impl Head {
    /// Its name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Head::Full => "full",
            Head::Exact => "exact",
            Head::Fast => "fast",
        }
    }
}

impl FromStr for Head {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Head::Full, Head::Exact, Head::Fast].into_iter().find(|head| head.name() == text).ok_or(())
    }
}

/// How weights lie, as the command line has it: a model is loaded for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// `None` is the fastest table.
    pub(crate) table: Option<String>,
    pub(crate) head: Head,
    pub(crate) code: Option<Code>,
    pub(crate) skip: Option<bool>,
}

impl Variant {
    /// The same for the library.
    pub(crate) fn packing(&self) -> Packing {
        let screen = (self.head == Head::Full).then_some(false);
        Packing { code: self.code, skip: self.skip, screen }
    }

    /// The same for a child's command line.
    pub(crate) fn flags(&self) -> Vec<&str> {
        let form = match self.code {
            Some(Code::Base3) => "base3",
            Some(_) => "bits2",
            None => "auto",
        };
        let skip = self.skip.map_or("auto", |skip| if skip { "yes" } else { "no" });
        let mut flags = vec!["--head", self.head.name(), "--form", form, "--skip", skip];
        flags.extend(self.table.iter().flat_map(|table| ["--table", table]));
        flags
    }
}

/// Everything asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) models: Vec<PathBuf>,
    pub(crate) prompts: Vec<usize>,
    pub(crate) decodes: Vec<usize>,
    pub(crate) trunk: Vec<usize>,
    pub(crate) first: Vec<usize>,
    pub(crate) memory: Vec<usize>,
    pub(crate) threads: Vec<usize>,
    pub(crate) batches: Vec<usize>,
    pub(crate) depths: Vec<usize>,
    pub(crate) sequences: Vec<usize>,
    pub(crate) choose: Vec<Choose>,
    /// Of tables, heads, forms and skipping.
    pub(crate) variants: Vec<Variant>,
    pub(crate) caches: Vec<KvType>,
    pub(crate) text: Option<PathBuf>,
    pub(crate) repetitions: usize,
    pub(crate) tries: usize,
    pub(crate) json: bool,
    pub(crate) save: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    /// Threads to probe with, and nothing else.
    pub(crate) probe: Vec<usize>,
    /// This process is one of the measured ones: `first` or `memory`.
    pub(crate) child: Option<String>,
    /// Results to show instead of measuring.
    pub(crate) files: Vec<PathBuf>,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn from_args(mut args: Args) -> Result<Self, Box<dyn Error>> {
        let mut models = Vec::new();
        while let Some(model) = args.value(&["-m", "--model"])? {
            models.push(model);
        }
        if models.is_empty() {
            models.push(shipped_model().into());
        }
        let cores = performance_cores();
        let repetitions = args.value(&["-r"])?.unwrap_or(5).max(1);
        let options = Self {
            models,
            prompts: counts(&mut args, &["-p"], &[512])?,
            decodes: counts(&mut args, &["-n"], &[128])?,
            trunk: counts(&mut args, &["--trunk"], &[])?,
            first: counts(&mut args, &["--first"], &[])?,
            memory: counts(&mut args, &["--memory"], &[])?,
            threads: counts(&mut args, &["-t"], &[cores])?,
            batches: counts(&mut args, &["-b"], &[tern::context::BATCH])?,
            depths: list(&mut args, &["-d"])?.unwrap_or(vec![0]),
            sequences: counts(&mut args, &["-s"], &[1])?,
            choose: list(&mut args, &["--choose"])?.unwrap_or(vec![
                Choose::Greedy,
                Choose::Chain,
                Choose::Softmax,
            ]),
            variants: variants(&mut args)?,
            caches: list::<String>(&mut args, &["--cache"])?
                .unwrap_or(vec!["f16".into()])
                .iter()
                .map(|name| cache(name))
                .collect::<Result<_, _>>()?,
            text: args.value(&["-f"])?,
            repetitions,
            tries: args.value(&["--tries"])?.unwrap_or(3 * repetitions).max(repetitions),
            json: match args.value::<String>(&["-o"])?.as_deref() {
                None | Some("md") => false,
                Some("json") => true,
                Some(_) => return Err(USAGE.into()),
            },
            save: args.value(&["--save"])?,
            plot: args.value(&["--plot"])?,
            probe: counts(&mut args, &["--probe"], &[])?,
            child: args.value(&["--child"])?,
            files: args
                .words()
                .map_err(|why| format!("{why}\n{USAGE}"))?
                .iter()
                .map(PathBuf::from)
                .collect(),
        };
        if options.plot.is_some() && options.files.is_empty() {
            return Err(USAGE.into());
        }
        Ok(options)
    }
}

/// Every combination of tables, heads, forms and skipping.
fn variants(args: &mut Args) -> Result<Vec<Variant>, String> {
    let named = |text: String, names: &[&str]| {
        names
            .iter()
            .position(|name| *name == text)
            .ok_or(format!("{text:?}: one of {} is wanted\n{USAGE}", names.join(", ")))
    };
    let tables = list::<String>(args, &["--table"])?
        .map_or(vec![None], |names| names.into_iter().map(Some).collect());
    let heads = list(args, &["--head"])?.unwrap_or(vec![Head::Exact]);
    let forms = list::<String>(args, &["--form"])?.unwrap_or(vec!["auto".into()]);
    let skips = list::<String>(args, &["--skip"])?.unwrap_or(vec!["auto".into()]);
    let mut all = Vec::new();
    for table in tables {
        for form in &forms {
            let code = [None, Some(Code::Bits2), Some(Code::Base3)]
                [named(form.clone(), &["auto", "bits2", "base3"])?];
            for skip in &skips {
                let skip =
                    [None, Some(true), Some(false)][named(skip.clone(), &["auto", "yes", "no"])?];
                all.extend(heads.iter().map(|head| Variant {
                    table: table.clone(),
                    head: *head,
                    code,
                    skip,
                }));
            }
        }
    }
    Ok(all)
}

/// A list of numbers above 0; an explicit 0 is dropped.
fn counts(args: &mut Args, names: &[&str], default: &[usize]) -> Result<Vec<usize>, String> {
    let mut list = list(args, names)?.unwrap_or(default.to_vec());
    list.retain(|n| *n > 0);
    Ok(list)
}

/// A list between commas.
fn list<T: FromStr>(args: &mut Args, names: &[&str]) -> Result<Option<Vec<T>>, String> {
    let Some(text) = args.value::<String>(names)? else { return Ok(None) };
    let one = |word: &str| {
        word.parse().map_err(|_| format!("{} {word:?}: not a value of its kind\n{USAGE}", names[0]))
    };
    text.split(',').filter(|word| !word.is_empty()).map(one).collect::<Result<_, _>>().map(Some)
}

/// A kind of cache by its name.
fn cache(name: &str) -> Result<KvType, String> {
    match name {
        "f16" => Ok(KvType::F16),
        "i8" => Ok(KvType::I8),
        _ => Err(format!("--cache {name}: f16 or i8\n{USAGE}")),
    }
}

/// The name of a kind of cache.
pub(crate) fn cache_name(kind: KvType) -> &'static str {
    match kind {
        KvType::F16 => "f16",
        KvType::I8 => "i8",
    }
}
