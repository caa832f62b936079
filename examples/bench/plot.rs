//! Results as drawings: tokens each second against threads, context, batch and sequences.
//!
//! Plain SVG without a background, in colours that read on white and on black.

use super::report::{Figure, Report};
use std::{
    collections::BTreeMap,
    error::Error,
    fmt::{self, Write},
    fs,
    path::Path,
};

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 400.0;
/// Left, top, right and bottom of the axes.
const FRAME: [f64; 4] = [64.0, 44.0, 500.0, 350.0];
/// Mid-tones, told apart in grey too; markers differ as well.
const COLOURS: [&str; 6] = ["#3b82c4", "#d9772b", "#4a9d5b", "#b5528f", "#8a7ad1", "#9a8a3c"];
const GREY: &str = "#808080";

/// What stands on the horizontal axis.
struct Axis {
    name: &'static str,
    title: &'static str,
    of: fn(&Figure) -> usize,
}

const AXES: [Axis; 4] = [
    Axis { name: "threads", title: "threads", of: |figure| figure.setting.threads },
    Axis {
        name: "context",
        title: "tokens in the context before",
        of: |figure| figure.setting.depth,
    },
    Axis { name: "batch", title: "tokens of one pass", of: |figure| figure.setting.batch },
    Axis { name: "sequences", title: "sequences together", of: |figure| figure.setting.sequences },
];

/// A line: its points by place on the axis.
type Points<'a> = BTreeMap<usize, &'a Figure>;

/// Draws every chart that has a line of at least two points; answers the names of the files.
pub(crate) fn draw(report: &Report, folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut names = Vec::new();
    for (test, title) in [("decode", "Generating"), ("prefill", "Reading a prompt")] {
        for axis in &AXES {
            let lines = lines(report, test, axis);
            if lines.is_empty() {
                continue;
            }
            let name = format!("{test}-{}.svg", axis.name);
            fs::write(
                folder.join(&name),
                chart(&format!("{title}: tokens each second"), axis, &lines, &report.machine.cpu)?,
            )?;
            names.push(name);
        }
    }
    Ok(names)
}

/// Figures of a test in lines: those of one line differ in the axis alone.
fn lines<'a>(report: &'a Report, test: &str, axis: &Axis) -> Vec<(String, Points<'a>)> {
    let mut groups: BTreeMap<Vec<String>, Points<'a>> = BTreeMap::new();
    for figure in report.figures.iter().filter(|figure| figure.test == test) {
        // A later figure of the same setting takes the place of an earlier one.
        groups.entry(key(figure, axis)).or_default().insert((axis.of)(figure), figure);
    }
    groups.retain(|_, points| points.len() > 1);
    let keys: Vec<Vec<String>> = groups.keys().cloned().collect();
    let varies = |i: usize| keys.iter().any(|key| key[i] != keys[0][i]);
    let label = |key: &Vec<String>| {
        let parts: Vec<&str> = key
            .iter()
            .enumerate()
            .filter(|(i, part)| varies(*i) && !part.is_empty())
            .map(|(_, part)| &**part)
            .collect();
        if parts.is_empty() { key[0].clone() } else { parts.join(", ") }
    };
    groups.into_iter().map(|(key, points)| (label(&key), points)).collect()
}

/// What a line has in common, as words of its label.
fn key(figure: &Figure, axis: &Axis) -> Vec<String> {
    let s = &figure.setting;
    let unless = |name: &str, text: String| if axis.name == name { String::new() } else { text };
    vec![
        s.model.trim_end_matches(".gguf").to_owned(),
        figure.name(),
        s.choose.clone(),
        if s.choose.is_empty() { String::new() } else { format!("{} head", s.head) },
        format!("{} cache", s.cache),
        s.table.clone(),
        s.form.clone(),
        if s.skip { "skips zeros".to_owned() } else { String::new() },
        unless("threads", plural(s.threads, "thread")),
        unless("context", format!("after {}", s.depth)),
        unless("batch", format!("batch {}", s.batch)),
        unless("sequences", plural(s.sequences, "sequence")),
    ]
}

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn chart(
    title: &str,
    axis: &Axis,
    lines: &[(String, Points<'_>)],
    cpu: &str,
) -> Result<String, fmt::Error> {
    let [left, top, right, bottom] = FRAME;
    let most = lines
        .iter()
        .flat_map(|(_, points)| points.values())
        .map(|figure| figure.tokens_per_second.max)
        .fold(0.0, f64::max);
    let (step, ticks) = ticks(most);
    let mut places: Vec<usize> =
        lines.iter().flat_map(|(_, points)| points.keys().copied()).collect();
    places.sort_unstable();
    places.dedup();
    // Places at equal distances: they are powers of two as a rule.
    let x = |place: usize| {
        let i = places.partition_point(|other| *other < place) as f64;
        left + (i + 0.5) / places.len() as f64 * (right - left)
    };
    let y = |value: f64| bottom - value / (step * ticks as f64) * (bottom - top);

    let mut out = String::new();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{GREY}\" role=\"img\">"
    )?;
    writeln!(out, "<title>{}</title>", escaped(title))?;
    text(&mut out, (left, 22.0), "start", title, "font-size=\"15\" font-weight=\"bold\"")?;
    for tick in 0..=ticks {
        let value = step * tick as f64;
        let at = y(value);
        let opacity = if tick == 0 { "0.9" } else { "0.25" };
        writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"{GREY}\" stroke-opacity=\"{opacity}\"/>"
        )?;
        text(&mut out, (left - 8.0, at + 4.0), "end", &number(value), "")?;
    }
    for place in &places {
        text(&mut out, (x(*place), bottom + 18.0), "middle", &place.to_string(), "")?;
    }
    text(&mut out, ((left + right) / 2.0, bottom + 38.0), "middle", axis.title, "")?;
    text(&mut out, (WIDTH - 4.0, HEIGHT - 4.0), "end", cpu, "font-size=\"10\"")?;
    for (i, (label, points)) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let place = |(place, figure): (&usize, &&Figure)| {
            format!("{:.1} {:.1}", x(*place), y(figure.tokens_per_second.median))
        };
        let path: Vec<String> = points.iter().map(place).collect();
        // The second round of colours is dashed.
        let dash = if i < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
        writeln!(
            out,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
            path.join("L")
        )?;
        for (place, figure) in points {
            let (x, spread) = (x(*place), figure.tokens_per_second);
            writeln!(
                out,
                "<path d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"{colour}\"/>",
                y(spread.min),
                y(spread.max)
            )?;
            marker(&mut out, i, (x, y(spread.median)), colour, figure.counts)?;
        }
        let at = top + 8.0 + 20.0 * i as f64;
        marker(&mut out, i, (right + 16.0, at), colour, true)?;
        text(
            &mut out,
            (right + 26.0, at + 4.0),
            "start",
            label,
            &format!("font-size=\"11\" fill=\"{colour}\""),
        )?;
    }
    writeln!(out, "</svg>")?;
    Ok(out)
}

/// A point, in one of three shapes; hollow where the probes disagree.
fn marker(
    out: &mut String,
    line: usize,
    (x, y): (f64, f64),
    colour: &str,
    filled: bool,
) -> fmt::Result {
    let fill = if filled { colour } else { "none" };
    let shape = match line % 3 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\""),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"", x - 3.5, y - 3.5),
        _ => format!("<path d=\"M{:.1} {y:.1}l5 -5l5 5l-5 5z\"", x - 5.0),
    };
    writeln!(out, "{shape} fill=\"{fill}\" stroke=\"{colour}\"/>")
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, text: &str, more: &str) -> fmt::Result {
    writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{}</text>",
        escaped(text)
    )
}

/// The distance of the axis' ticks, a round number, and how many reach `most`.
fn ticks(most: f64) -> (f64, usize) {
    let rough = (most / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|round| round * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    (step, (most / step).ceil().max(1.0) as usize)
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
