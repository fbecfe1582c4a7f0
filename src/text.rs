//! Text on a terminal: how wide it may be, and where its lines break.

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

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("1) ", "one two three", 10), "1) one two\n   three");
        assert_eq!(wrap("1) ", "extraordinary word", 8), "1) extraordinary\n   word");
        assert_eq!(wrap("", "é é é", 3), "é é\né");
    }
}
