//! How answers are shown.

use serde_json::Value;

use crate::{cli::Output, say::say};

/// A heading, and what stands under it.
pub(super) type Column<'a> = (&'a str, &'a dyn Fn(&Value) -> String);

/// Rows under headings, or all that is known as JSON.
pub(super) fn table(rows: &[Value], columns: &[Column<'_>], output: Option<Output>) {
    if output == Some(Output::Json) {
        say(format_args!("{:#}", Value::from(rows.to_vec())));
        return;
    }
    let mut lines = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    lines.extend(
        rows.iter().map(|row| columns.iter().map(|(_, cell)| cell(row)).collect::<Vec<_>>()),
    );
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..columns.len()).map(|column| width(column).unwrap_or(0)).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// One thing.
pub(super) fn one(row: &Value, columns: &[Column<'_>], output: Option<Output>) {
    match output {
        Some(Output::Json) => say(format_args!("{row:#}")),
        _ => table(std::slice::from_ref(row), columns, output),
    }
}

/// What was done.
pub(super) fn done(sentence: &str, answer: &Value, output: Option<Output>) {
    match output {
        Some(Output::Json) => say(format_args!("{answer:#}")),
        _ => say(sentence),
    }
}
