//! A chapter's Markdown as lines on a terminal.

pub use workbook::text::{COLUMNS, width, wrap};

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
    use super::plain;

    #[test]
    fn markdown_is_read_as_text() {
        let text = "A [`pid`](glossary.md#pid) and `a * b` are **not** *so*, [see](x.md).";
        assert_eq!(plain(text), "A `pid` and `a * b` are not so, see.");
        assert_eq!(plain("an ](odd one"), "an ](odd one");
    }
}
