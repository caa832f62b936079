//! What the bench makes of its runs: which of them count, and what its tables and drawings show.

#[path = "../examples/bench/limits.rs"]
mod limits;
#[path = "../examples/bench/plot.rs"]
mod plot;
#[path = "../examples/bench/probe.rs"]
mod probe;
#[path = "../examples/bench/report.rs"]
mod report;
#[path = "../examples/bench/show.rs"]
mod show;

use limits::{Prober, agree};
use report::{Figure, Limits, Machine, Report, Run, Setting, Spread, Work};

fn limits(read: f64, dot: f64) -> Limits {
    Limits { read, dot }
}

fn run(tokens_per_second: f64, before: Limits, after: Limits) -> Run {
    Run { tokens_per_second, before, after, counts: agree(before, after) }
}

/// Five runs, of which those with an even speed count; a token reads 2 GB and takes 3 G products.
fn figure(setting: Setting, wanted: usize) -> Figure {
    let near = (limits(50e9, 900e9), limits(52e9, 880e9));
    let far = (limits(50e9, 900e9), limits(80e9, 900e9));
    let runs = [20.0, 99.0, 22.0, 1.0, 24.0].map(|speed| {
        let (before, after) = if speed % 2.0 == 0.0 { near } else { far };
        run(speed, before, after)
    });
    let work = Work { trunk_bytes: 1e9, head_bytes: 0.7e9, cache_bytes: 0.3e9, macs: 3e9 };
    Figure::new("decode", 128, setting, work, runs.to_vec(), wanted)
}

#[test]
fn probes_agree_within_five_per_cent_of_the_larger_in_both_kinds() {
    let base = limits(100.0, 100.0);
    for (other, want) in [
        (limits(100.0, 100.0), true),
        (limits(95.0, 100.0), true),
        (limits(94.9, 100.0), false),
        (limits(105.2, 100.0), true),
        (limits(105.4, 100.0), false),
        (limits(100.0, 94.0), false),
    ] {
        assert_eq!(agree(base, other), want, "{other:?}");
        assert_eq!(agree(other, base), want, "{other:?}");
    }
}

#[test]
fn a_figure_is_the_median_of_the_runs_that_count() {
    let figure = figure(Setting::default(), 3);
    assert!(figure.counts);
    assert_eq!(figure.tokens_per_second, Spread { median: 22.0, min: 20.0, max: 24.0 });
    // 22 tokens of 2 GB of 51 GB, and of 3 G products of 890 G.
    assert!((figure.share_of_read - 44.0 / 51.0).abs() < 1e-9, "{}", figure.share_of_read);
    assert!((figure.share_of_dot - 66.0 / 890.0).abs() < 1e-9, "{}", figure.share_of_dot);
}

#[test]
fn a_figure_of_too_few_runs_that_count_is_that_of_all_and_says_so() {
    let figure = figure(Setting::default(), 4);
    assert!(!figure.counts);
    assert_eq!(figure.tokens_per_second, Spread { median: 22.0, min: 1.0, max: 99.0 });
    let report = Report { figures: vec![figure], ..Report::default() };
    assert!(show::markdown(&report).expect("a table").contains("3 of 5 **does not count**"));
}

#[test]
fn runs_go_on_until_enough_count_or_the_tries_are_spent() {
    let prober = Prober::new();
    let mut calls = 0;
    let runs = prober
        .runs(1, (2, 6), || {
            calls += 1;
            Ok((10, Some(0.5)))
        })
        .expect("enough tries");
    assert_eq!(runs.len(), calls);
    let good = runs.iter().filter(|run| run.counts).count();
    assert!(good == 2 || runs.len() == 6, "{good} of {}", runs.len());
    for run in &runs {
        assert_eq!(run.tokens_per_second, 20.0);
        assert_eq!(run.counts, agree(run.before, run.after), "{run:?}");
        assert!(run.before.read > 0.0 && run.after.read > 0.0, "{run:?}");
    }
    assert!(
        runs.windows(2).all(|pair| pair[0].after == pair[1].before),
        "a probe between two runs"
    );
}

#[test]
fn a_report_goes_through_json_to_tables_and_drawings() {
    let setting = |threads, depth| Setting {
        model: "a<b.gguf".into(),
        table: "avx2".into(),
        choose: "greedy".into(),
        head: "exact".into(),
        cache: "f16".into(),
        threads,
        depth,
        ..Setting::default()
    };
    let machine = Machine { cpu: "A & B".into(), threads: 2, ..Machine::default() };
    let settings = [setting(1, 0), setting(2, 0), setting(2, 512)];
    let figures = settings.map(|setting| figure(setting, 3)).to_vec();
    let report = Report { machine, figures, ..Report::default() };

    let folder = std::env::temp_dir().join(format!("tern-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("report.json");
    std::fs::write(&path, serde_json::to_string(&report).expect("JSON")).expect("written");
    let twice = Report::read(&[&path, &path]).expect("readable");
    assert_eq!(twice.figures.len(), 6);
    let table = show::markdown(&twice).expect("a table");
    assert_eq!(table.matches("| a<b.gguf | tg128 |").count(), 6, "{table}");
    assert!(
        table.contains("22.00 (20.00 to 24.00) | 51.0 | 86 % | 890.0 | 7 % | 3 of 5 count"),
        "{table}"
    );

    // Two points in threads, two in context; batch and sequences have one place each.
    let names = plot::draw(&twice, &folder).expect("drawn");
    assert_eq!(names, ["decode-threads.svg", "decode-context.svg"]);
    for name in names {
        let svg = std::fs::read_to_string(folder.join(&name)).expect("there");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("A &amp; B") && !svg.contains("A & B"), "{svg}");
        // Two points and one in the legend.
        assert_eq!(svg.matches("<circle").count(), 3, "{name}: {svg}");
    }
    let other =
        Report { machine: Machine { cpu: "C".into(), ..Machine::default() }, ..Report::default() };
    let another = folder.join("other.json");
    std::fs::write(&another, serde_json::to_string(&other).expect("JSON")).expect("written");
    let error = Report::read(&[&path, &another]).unwrap_err().to_string();
    assert!(error.contains("other.json") && error.contains("another CPU"), "{error}");
    std::fs::remove_dir_all(folder).expect("ours");
}
