//! Columns for people.

use std::fmt::Display;
use std::ops::Range;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table as Inner};

use crate::terminal;

/// A table whose cells are a line each, whatever is in them.
#[derive(Debug)]
pub struct Table(Inner);

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// A table without a header.
    #[must_use]
    pub fn new() -> Self {
        let mut table = Inner::new();
        table.load_style(NOTHING);
        Self(table)
    }

    /// A table with a header.
    pub fn with_header<T: Display>(header: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::new();
        table.0.set_header(cells(header));
        table
    }

    /// Adds a row.
    pub fn row<T: Display>(&mut self, row: impl IntoIterator<Item = T>) {
        self.0.add_row(cells(row));
    }

    /// Aligns columns, counted from 0, to the right.
    pub fn align_right(&mut self, columns: Range<usize>) {
        for column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    /// Without the blanks that fill the last column.
    pub fn text(&self) -> String {
        self.0.lines().map(|line| line.trim_end().trim_start_matches(' ').to_owned()).collect::<Vec<_>>().join("\n")
    }
}

fn cells<T: Display>(cells: impl IntoIterator<Item = T>) -> Vec<String> {
    cells.into_iter().map(|cell| terminal::value(&cell.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_on_its_line_whatever_is_in_it() {
        let mut table = Table::with_header(["A", "B"]);
        table.row(["x\n\u{1b}[2Jy", "z"]);
        assert_eq!(table.text(), "A              B\nx\\n\\u{1b}[2Jy  z");
    }
}
