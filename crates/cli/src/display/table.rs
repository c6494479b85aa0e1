//! Columns aligned by spaces as Docker aligns them: cells end with a tab, a column is as wide as its widest cell and
//! three spaces, and at least ten.

const MINIMUM: usize = 10;
const PADDING: usize = 3;

/// Aligns lines whose cells are separated by tabs. What follows a line's last tab belongs to no column.
pub fn align(text: &str) -> String {
    align_with(text, MINIMUM, PADDING)
}

/// The same with another minimal width and padding.
pub fn align_with(text: &str, minimum: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|_| Vec::new()).collect();
    measure(&lines, &mut widths, 0, 0..lines.len(), minimum, padding);
    let mut out = String::with_capacity(text.len() * 2);
    for (number, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
        if number > 0 {
            out.push('\n');
        }
        for (index, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if index + 1 < cells.len() {
                let spaces = widths[index].saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', spaces));
            }
        }
    }
    out
}

/// A column is a block of consecutive lines that all have a cell at that place, so a block nests in the block before.
fn measure(
    lines: &[Vec<&str>],
    widths: &mut [Vec<usize>],
    column: usize,
    range: std::ops::Range<usize>,
    minimum: usize,
    padding: usize,
) {
    let mut line = range.start;
    while line < range.end {
        if column + 1 >= lines[line].len() {
            line += 1;
            continue;
        }
        let start = line;
        while line < range.end && column + 1 < lines[line].len() {
            line += 1;
        }
        let widest = lines[start..line].iter().map(|cells| cells[column].chars().count() + padding).max();
        let width = widest.unwrap_or(0).max(minimum);
        for widths in &mut widths[start..line] {
            widths.push(width);
        }
        measure(lines, widths, column + 1, start..line, minimum, padding);
    }
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn as_docker_aligns_ps() {
        let text = "CONTAINER ID\tIMAGE\tPORTS\tNAMES\n0123456789ab\tredis:7\t\tbrave_otter\n";
        let expected = "CONTAINER ID   IMAGE     PORTS     NAMES\n0123456789ab   redis:7             brave_otter\n";
        assert_eq!(align(text), expected);
    }

    #[test]
    fn wide_cells_and_ragged_lines() {
        assert_eq!(align("a\tb\nlonger than ten\tc\n"), "a                 b\nlonger than ten   c\n");
        assert_eq!(align("a\tb\tc\nd\n\ne\tf"), "a         b         c\nd\n\ne         f");
        assert_eq!(align("é\tb"), "é         b");
    }
}
