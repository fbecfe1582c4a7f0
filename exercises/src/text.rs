//! A chapter's Markdown as lines on a terminal.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::libc::{TIOCGWINSZ, ioctl, winsize};

/// No line is longer, however wide the terminal.
pub const COLUMNS: usize = 80;

/// The width to keep to: the terminal's, or 80 columns where there is none.
pub fn width() -> usize {
    let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes the four numbers, which live until the call returns.
    let asked = unsafe { ioctl(io::stdout().as_raw_fd(), TIOCGWINSZ, &mut size) };
    match Errno::result(asked) {
        Ok(_) if size.ws_col > 0 => COLUMNS.min(size.ws_col.into()),
        _ => COLUMNS,
    }
}

/// Breaks a text between words. The first line begins with `start`, the others with as many blanks.
pub fn wrap(start: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(start.chars().count());
    let (mut wrapped, mut column) = (start.to_string(), indent.len());
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column == indent.len() {
            column += length;
        } else if column + 1 + length <= width {
            wrapped.push(' ');
            column += 1 + length;
        } else {
            wrapped += &format!("\n{indent}");
            column = indent.len() + length;
        }
        wrapped += word;
    }
    wrapped
}

/// Links are their text, emphasis is none, and code stays between backquotes.
pub fn plain(markdown: &str) -> String {
    let mut text = markdown.to_string();
    while let Some((start, middle, end)) = link(&text) {
        text = format!("{}{}{}", &text[..start], &text[start + 1..middle], &text[end + 1..]);
    }
    let parts = text.split('`').enumerate();
    let parts =
        parts.map(|(nth, part)| if nth % 2 == 1 { part.into() } else { part.replace('*', "") });
    parts.collect::<Vec<_>>().join("`")
}

/// Where the first link has its `[`, `](` and `)`.
fn link(text: &str) -> Option<(usize, usize, usize)> {
    let middle = text.find("](")?;
    Some((text[..middle].rfind('[')?, middle, middle + text[middle..].find(')')?))
}

#[cfg(test)]
mod tests {
    use super::{plain, wrap};

    #[test]
    fn markdown_is_read_as_text() {
        let text = "A [`pid`](glossary.md#pid) and `a * b` are **not** *so*, [see](x.md).";
        assert_eq!(plain(text), "A `pid` and `a * b` are not so, see.");
        assert_eq!(plain("an ](odd one"), "an ](odd one");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("1) ", "one two three", 10), "1) one two\n   three");
        assert_eq!(wrap("1) ", "extraordinary word", 8), "1) extraordinary\n   word");
        assert_eq!(wrap("", "é é é", 3), "é é\né");
    }
}
