//! Tables with aligned columns.

use super::text::shown;
use super::{LineBreak, Paint, Text};

/// A table below a dim header. `paint` colors a cell, by row and column.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: Vec<[String; N]>,
    paint: impl Fn(usize, usize) -> Option<Paint>,
) -> Text {
    // The widths of the columns are those of what is shown.
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| shown(&cell))).collect();
    let header = header.map(str::to_owned);
    let all = || std::iter::once(&header).chain(&rows);
    let widths: Vec<usize> =
        (0..N).map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
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
