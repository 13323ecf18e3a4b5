//! Columns of text.

use std::io::{self, Write};

/// Rows under a heading.
pub(super) struct Table {
    heading: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// Spaces between columns, as istioctl has them.
const GAP: usize = 5;

impl Table {
    /// Nothing but a heading.
    pub(super) fn new(heading: &'static [&'static str]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    /// Adds a row; a cell for each word of the heading.
    pub(super) fn add<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.heading.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// Prints heading and rows.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let heading: Vec<String> = self.heading.iter().map(|&word| word.to_owned()).collect();
        let all = || std::iter::once(&heading).chain(&self.rows);
        let widths: Vec<usize> = (0..heading.len())
            .map(|column| {
                let width = |row: &Vec<String>| row.get(column).map_or(0, |c| c.chars().count());
                all().map(width).max().unwrap_or(0)
            })
            .collect();
        for row in all() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}{:GAP$}", ""));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
