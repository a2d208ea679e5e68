//! Holds what callgrind counted to the baseline that is kept with the code.
//!
//! `instructions BASELINE TOOLS` reads the bench's JSON from stdin and fails if a row costs over 2 % more
//! than `BASELINE` says; `instructions BASELINE TOOLS accept` writes what was counted to it. `TOOLS` are
//! the versions of what compiled and counted. `make instructions` and `make instructions-accept` call it.

use std::{
    collections::BTreeMap,
    env::{self, consts::ARCH},
    error::Error,
    fs, io,
    process::ExitCode,
};

use decisions::{COUNTED, Row};
use serde::Deserialize;
use serde_json::Value;

/// Instructions per datagram, by row.
type Counts = BTreeMap<String, u64>;

/// What an architecture's rows are held to.
#[derive(Debug, Deserialize, Eq, PartialEq)]
struct Baseline {
    /// Versions of what compiled and counted: others count otherwise.
    tools: String,
    rows: Counts,
}

/// Per cent by which a row may differ from its baseline unmentioned. A row that costs more fails.
const TOLERANCE_PERCENT: u64 = 2;

const ACCEPT: &str = "`make instructions-accept`";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (path, tools, accept) = match *arguments {
        [path, tools] => (path, tools, false),
        [path, tools, "accept"] => (path, tools, true),
        _ => return Err("usage: instructions BASELINE TOOLS [accept] < JSON of the bench".into()),
    };
    let counts = counted(&io::read_to_string(io::stdin())?)?;
    let mut baselines: BTreeMap<String, Baseline> = match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| format!("{path}: {error}"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(format!("{path}: {error}").into()),
    };
    if accept {
        baselines.insert(ARCH.to_owned(), Baseline { tools: tools.to_owned(), rows: counts });
        fs::write(path, text(&baselines)).map_err(|error| format!("{path}: {error}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(baseline) = baselines.get(ARCH) else {
        println!("{path} has no baseline of {ARCH}, so nothing is held to it");
        return Ok(ExitCode::SUCCESS);
    };
    for row in Row::ALL {
        if let (Some(now), Some(was)) = (counts.get(row.label()), baseline.rows.get(row.label())) {
            println!("{now:>7}  {:>7}  {}", percent(*was, *now), row.label());
        }
    }
    let (failures, remarks) = compared(&baseline.rows, &counts);
    for sentence in remarks.iter().chain(&failures) {
        eprintln!("{sentence}");
    }
    if !failures.is_empty() && baseline.tools != tools {
        eprintln!("The baseline is of {}; this was counted with {tools}.", baseline.tools);
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was counted of each row, divided by its datagrams.
///
/// # Errors
/// If a line is not the runner's, or a row is missing.
fn counted(lines: &str) -> Result<Counts, Box<dyn Error>> {
    let mut by_id = BTreeMap::new();
    for line in lines.lines() {
        let summary: Value = serde_json::from_str(line)?;
        let row = summary["id"].as_str().zip(instructions(&summary));
        let (id, count) = row.ok_or_else(|| format!("no row and its instructions: {line}"))?;
        by_id.insert(id.to_owned(), (count + u64::from(COUNTED) / 2) / u64::from(COUNTED));
    }
    let mut counts = Counts::new();
    for row in Row::ALL {
        let count = by_id.remove(&id(*row));
        let count = count.ok_or_else(|| format!("{:?} was not counted", row.label()))?;
        counts.insert(row.label().to_owned(), count);
    }
    Ok(counts)
}

/// Instructions of one row in this run; of a former one the runner may tell too.
fn instructions(summary: &Value) -> Option<u64> {
    let value = summary.pointer("/profiles/0/data/total/metrics/Ir/values/new")?;
    value.as_u64()
}

/// What the bench calls a row: its label, with `_` for what an identifier cannot have.
fn id(row: Row) -> String {
    let words = row.label().split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    words.join("_")
}

/// The baselines as they are kept: the table of each architecture, in the order of the rows.
fn text(baselines: &BTreeMap<String, Baseline>) -> String {
    let mut text = String::from(
        "# Instructions per datagram of each row, counted by callgrind. Written by\n\
         # `make instructions-accept`; `make instructions` fails when a row costs over 2 % more.\n",
    );
    for (architecture, Baseline { tools, rows }) in baselines {
        text += &format!("\n[{architecture}]\ntools = {tools:?}\n\n[{architecture}.rows]\n");
        for label in Row::ALL.iter().map(|row| row.label()) {
            if let Some(count) = rows.get(label) {
                text += &format!("{label:?} = {count}\n");
            }
        }
    }
    text
}

/// What must not be, and what is worth a remark: a sentence each.
fn compared(baseline: &Counts, counts: &Counts) -> (Vec<String>, Vec<String>) {
    let (mut failures, mut remarks) = (Vec::new(), Vec::new());
    for (row, &now) in counts {
        let Some(&was) = baseline.get(row) else {
            failures.push(format!("{row:?} has no baseline yet: {ACCEPT} adds it."));
            continue;
        };
        let change = percent(was, now);
        let costs =
            format!("{row:?} takes {now} instructions per datagram and took {was} ({change})");
        if now * 100 > was * (100 + TOLERANCE_PERCENT) {
            failures.push(format!(
                "{costs}, more than the {TOLERANCE_PERCENT} % that are let pass: make it as cheap \
                 as it was, or accept the new cost by {ACCEPT}."
            ));
        } else if now * 100 < was * (100 - TOLERANCE_PERCENT) {
            remarks.push(format!("{costs}: {ACCEPT} makes that what it is held to."));
        }
    }
    for row in baseline.keys().filter(|row| !counts.contains_key(*row)) {
        failures.push(format!("{row:?} has a baseline and is no row any more: {ACCEPT} drops it."));
    }
    (failures, remarks)
}

/// How much more or less, in per cent.
fn percent(was: u64, now: u64) -> String {
    let thousandths = (i128::from(now) - i128::from(was)) * 1000 / i128::from(was.max(1));
    let sign = if thousandths < 0 { '-' } else { '+' };
    let size = thousandths.unsigned_abs();
    format!("{sign}{}.{} %", size / 10, size % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(&str, u64)]) -> Counts {
        rows.iter().map(|&(row, count)| (row.to_owned(), count)).collect()
    }

    #[test]
    fn a_row_that_costs_over_two_per_cent_more_fails_in_one_sentence() {
        let (failures, remarks) = compared(&counts(&[("a", 1_000)]), &counts(&[("a", 1_021)]));
        assert_eq!(
            failures,
            [
                "\"a\" takes 1021 instructions per datagram and took 1000 (+2.1 %), more than the 2 % \
                 that are let pass: make it as cheap as it was, or accept the new cost by \
                 `make instructions-accept`."
            ]
        );
        assert_eq!(remarks, [""; 0]);
    }

    #[test]
    fn a_row_that_costs_up_to_two_per_cent_more_or_less_passes_unmentioned() {
        for now in [980, 1_000, 1_020] {
            let (failures, remarks) = compared(&counts(&[("a", 1_000)]), &counts(&[("a", now)]));
            assert_eq!((failures.len(), remarks.len()), (0, 0), "{now}");
        }
    }

    #[test]
    fn a_row_that_costs_less_is_told_and_passes() {
        let (failures, remarks) = compared(&counts(&[("a", 1_000)]), &counts(&[("a", 979)]));
        assert_eq!(failures, [""; 0]);
        assert!(remarks[0].starts_with("\"a\" takes 979"), "{remarks:?}");
    }

    #[test]
    fn rows_come_and_go_only_with_the_baseline() {
        let (failures, _) = compared(&counts(&[("old", 1)]), &counts(&[("new", 1)]));
        assert!(failures[0].starts_with("\"new\" has no baseline"), "{failures:?}");
        assert!(failures[1].starts_with("\"old\" has a baseline"), "{failures:?}");
    }

    #[test]
    fn what_is_accepted_is_read_again() {
        let all = Row::ALL.iter().map(|row| (row.label(), 7)).collect::<Vec<_>>();
        let of = |rows| Baseline { tools: "rustc 1.0, valgrind-3.0".to_owned(), rows };
        let baselines = [("aarch64", counts(&all)), ("x86_64", counts(&all[..1]))];
        let baselines: BTreeMap<_, _> =
            baselines.map(|(architecture, rows)| (architecture.to_owned(), of(rows))).into();
        let again: BTreeMap<String, Baseline> = toml::from_str(&text(&baselines)).expect("valid");
        assert_eq!(again, baselines);
    }
}
