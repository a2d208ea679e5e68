//! The table, as people read it.

use std::fmt::Write;

use crate::cells::{Cell, Trial};

/// All that was tried with one peer.
pub(crate) struct Row {
    pub(crate) peer: String,
    pub(crate) cells: Vec<(Trial, Cell)>,
}

/// Rows as a Markdown table.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = "| peer |".to_owned();
    for trial in Trial::ALL {
        write!(text, " {} |", trial.title()).expect("a string takes all");
    }
    text.push('\n');
    text.push_str(&"| --- ".repeat(Trial::ALL.len() + 1));
    text.push_str("|\n");
    for row in rows {
        write!(text, "| {} |", row.peer).expect("a string takes all");
        for (_, cell) in &row.cells {
            write!(text, " {} |", cell.text.replace('|', "/")).expect("a string takes all");
        }
        text.push('\n');
    }
    text
}
