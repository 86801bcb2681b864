//! Tables with aligned columns.

use super::text::shown;
use super::{LineBreak, Paint, Text};

/// A table below a dim header. `paint` colors a cell, by row and column.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: Vec<[String; N]>,
    paint: impl Fn(usize, usize) -> Option<Paint>,
) -> Text {
    of_columns(header.map(str::to_owned).into(), rows.into_iter().map(Vec::from).collect(), paint)
}

/// A table with any number of columns: that of the header.
pub fn of_columns(header: Vec<String>, rows: Vec<Vec<String>>, paint: impl Fn(usize, usize) -> Option<Paint>) -> Text {
    // The widths of the columns are those of what is shown.
    let shown_row = |row: Vec<String>| row.iter().take(header.len()).map(|cell| shown(cell)).collect();
    let rows: Vec<Vec<String>> = rows.into_iter().map(shown_row).collect();
    let header: Vec<String> = header.iter().map(|cell| shown(cell)).collect();
    let all = || std::iter::once(&header).chain(&rows);
    let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = Text::default();
    for (index, row) in all().enumerate() {
        let mut line = Text::default();
        for (column, cell) in row.iter().enumerate() {
            let padded = format!("{cell:width$}  ", width = widths[column]);
            let color = if index == 0 { Some(Paint::Dim) } else { paint(index - 1, column) };
            line += match color {
                Some(color) => Text::painted(color, padded),
                None => padded.into(),
            };
        }
        text += line.trim_end() + LineBreak;
    }
    text
}
