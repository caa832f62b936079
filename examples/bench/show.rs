//! Results as tables in Markdown.

use super::report::{Figure, FirstToken, Limits, Memory, Report, Setting, Spread};
use std::fmt::{self, Write};

/// Everything, a table for each kind of result.
pub(crate) fn markdown(report: &Report) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let machine = &report.machine;
    writeln!(
        out,
        "{}, {} threads, tern {}",
        machine.cpu,
        machine.threads,
        machine.library["version"].as_str().unwrap_or("?")
    )?;
    if !report.figures.is_empty() {
        figures(&mut out, &report.figures)?;
    }
    if !report.firsts.is_empty() {
        firsts(&mut out, &report.firsts)?;
    }
    report.memories.iter().try_for_each(|memory| footprint(&mut out, memory))?;
    Ok(out)
}

fn figures(out: &mut String, figures: &[Figure]) -> fmt::Result {
    writeln!(
        out,
        "\nTokens each second, the median of the runs that count (least to most). Probes around the same runs: memory read, 8-bit products.\n"
    )?;
    writeln!(
        out,
        "| model | test | threads | batch | depth | sequences | choice | head | cache | table, form | tokens/s | reads GB/s | of it | products G/s | of it | runs |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|---|---|---|---|--:|--:|--:|--:|--:|---|")?;
    for figure in figures {
        let s = &figure.setting;
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            s.model,
            figure.name(),
            s.threads,
            s.batch,
            s.depth,
            s.sequences,
            s.choose,
            if s.choose.is_empty() { "" } else { &s.head },
            s.cache,
            kernels(s),
            spread(figure.tokens_per_second),
            giga(figure.read.median),
            percent(figure.share_of_read),
            giga(figure.dot.median),
            percent(figure.share_of_dot),
            runs(figure),
        )?;
    }
    Ok(())
}

fn firsts(out: &mut String, firsts: &[FirstToken]) -> fmt::Result {
    writeln!(
        out,
        "\nThe first token of a process that has just begun, the file in the page cache; milliseconds, the median (least to most).\n"
    )?;
    writeln!(
        out,
        "| model | prompt | threads | batch | table, form | first token | of it load | prompt | choice | reads GB/s before, after | runs |"
    )?;
    writeln!(out, "|---|--:|--:|--:|---|--:|--:|--:|--:|--:|---|")?;
    for first in firsts {
        let s = &first.setting;
        let read = |limits: Limits| giga(limits.read);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.1} | {}, {} | {} |",
            s.model,
            first.prompt,
            s.threads,
            s.batch,
            kernels(s),
            spread(first.total_ms),
            first.load_ms.median,
            first.prompt_ms.median,
            first.choose_ms.median,
            read(first.before),
            read(first.after),
            counts(first.counts),
        )?;
    }
    Ok(())
}

fn footprint(out: &mut String, memory: &Memory) -> fmt::Result {
    let s = &memory.setting;
    writeln!(
        out,
        "\nMemory of {} with a full context of {}, {} cache, {} threads, {}; MB.\n",
        s.model,
        memory.context,
        s.cache,
        s.threads,
        kernels(s)
    )?;
    writeln!(out, "| | own | mapped |\n|---|--:|--:|")?;
    for part in memory.parts.iter().filter(|part| part.own + part.mapped > 0) {
        writeln!(out, "| {} | {} | {} |", part.name, mega(part.own), mega(part.mapped))?;
    }
    writeln!(
        out,
        "| **resident, as the system counts** | {} | {} |",
        mega(memory.anonymous),
        mega(memory.file_backed)
    )?;
    writeln!(
        out,
        "\nThe most at one time: {} MB while loading, {} MB in all.",
        mega(memory.peak_load),
        mega(memory.peak)
    )
}

fn kernels(s: &Setting) -> String {
    format!("{}, {}{}", s.table, s.form, if s.skip { ", skips" } else { "" })
}

fn spread(of: Spread) -> String {
    let digits = match of.median {
        x if x >= 1000.0 => 0,
        x if x >= 100.0 => 1,
        _ => 2,
    };
    format!("{:.digits$} ({:.digits$} to {:.digits$})", of.median, of.min, of.max)
}

/// How many runs there were, and whether enough of them count.
fn runs(figure: &Figure) -> String {
    let good = figure.runs.iter().filter(|run| run.counts).count();
    format!("{good} of {} {}", figure.runs.len(), counts(figure.counts))
}

fn counts(counts: bool) -> &'static str {
    if counts { "count" } else { "**does not count**" }
}

fn giga(per_second: f64) -> String {
    format!("{:.1}", per_second / 1e9)
}

fn mega(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}
