//! The table, and the page around it.

use std::{fmt::Write, fs, io, path::Path};

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

/// Writes the page for people.
pub(crate) fn page(rows: &[Row]) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/interop.md");
    fs::write(path, include_str!("page.md").replace("{table}", &markdown(rows)))
}

/// The version of a crate that this is built with.
pub(crate) fn crate_version(name: &str) -> Result<String, String> {
    let lock: toml::Table =
        include_str!("../../Cargo.lock").parse().map_err(|error| format!("Cargo.lock: {error}"))?;
    let packages = lock["package"].as_array().into_iter().flatten();
    let version = packages.filter(|package| package["name"].as_str() == Some(name));
    let version = version.filter_map(|package| package["version"].as_str()).next_back();
    version.map(str::to_owned).ok_or_else(|| format!("Cargo.lock knows no {name}"))
}
