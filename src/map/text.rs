//! A map as lines: what is in a box is indented below its name. It has no lines and corners, which
//! a screen reader would read.

use super::nest::Nest;
use super::words;
use super::{Map, Moment};
use crate::text::wrap;

/// The lines, none wider than this where words allow.
pub(super) fn draw(map: &Map, width: usize) -> String {
    let mut page = Page { map, text: String::new(), width };
    if let Some(Moment { lesson, observations, seen }) = &map.moment {
        page.text =
            format!("{lesson}, after {observations} observations, the last of them\n{seen}\n\n");
    }
    page.line("", "The host");
    page.lines("", words::shared_by_all(&map.host));
    page.members(&map.host, None, 0);
    let unseen = words::unseen(map.unseen);
    if !unseen.is_empty() {
        page.text.push('\n');
        page.lines("", unseen);
    }
    page.text
}

struct Page<'map> {
    map: &'map Map,
    text: String,
    width: usize,
}

impl Page<'_> {
    fn line(&mut self, start: &str, text: &str) {
        self.text += &wrap(start, text, self.width);
        self.text.push('\n');
    }

    fn lines(&mut self, start: &str, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.line(start, &text));
    }

    /// The processes of a box, then the boxes in it.
    fn members(&mut self, nest: &Nest, user: Option<&str>, depth: usize) {
        let indent = "  ".repeat(depth);
        for row in nest.rows() {
            let said = format!("{}: {}", words::name(&row), words::pids(&row));
            self.line(&format!("{indent}- "), &said);
            self.line(&format!("{indent}  "), &words::uids(row.process));
        }
        for inner in &nest.inner {
            self.text.push('\n');
            self.nest(inner, user, depth + 1);
        }
    }

    fn nest(&mut self, nest: &Nest, user: Option<&str>, depth: usize) {
        let indent = "  ".repeat(depth);
        for head in words::heads(nest, user, &self.map.relations) {
            self.line(&indent, &format!("{} {}: {}", head.kind, head.name, head.meaning));
        }
        if depth == 1 {
            self.lines(&indent, words::shared_here(nest, &self.map.host));
        }
        self.members(nest, words::own_user(nest, user), depth);
    }
}
