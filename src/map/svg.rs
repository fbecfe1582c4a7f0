//! A map as a picture for a page: boxes in boxes, tall rather than wide, so that a small screen can
//! show it. Letters and lines have the colour of the text around it. Kinds differ by what they are
//! called, and by the line around them.

use std::fmt::Write as _;

use super::Map;
use super::nest::Nest;
use super::process::Process;
use super::words;
use crate::text::wrap;

const WIDTH: usize = 340;
/// From one line of text to the next, in pixels. The letters are 13 high, and about 7 wide.
const LINE: usize = 18;
const LETTER: usize = 7;
/// What a box leaves free around what is in it: left, right, and above.
const LEFT: usize = 10;
const RIGHT: usize = 4;
const GAP: usize = 6;

/// An `svg` element without blank lines: in Markdown one would be its end.
pub(super) fn draw(map: &Map) -> String {
    let mut picture = Picture { map, shapes: String::new(), y: 1 };
    let host = Place { x: 1, width: WIDTH - 2, depth: 0 };
    picture.text(host, "The host", true);
    picture.texts(host, words::shared_by_all(&map.host));
    picture.members(&map.host, None, host);
    picture.frame(host, 1, "stroke-width=\"1\"");
    picture.texts(host, words::unseen(map.unseen));

    let (height, shapes) = (picture.y + GAP, picture.shapes);
    let name = map.moment.as_ref().map_or("processes", |(lesson, _)| lesson);
    let words = super::text::draw(map, usize::MAX);
    let words: Vec<_> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"map-{name}\" aria-describedby=\"map-{name}-words\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"currentColor\">\n\
         <title id=\"map-{name}\">{name}: who is in which namespace</title>\n\
         <desc id=\"map-{name}-words\">{}</desc>\n{shapes}</svg>\n",
        escape(&words.join("\n"))
    )
}

/// Where a box is drawn, and in how many others it is.
#[derive(Clone, Copy)]
struct Place {
    x: usize,
    width: usize,
    depth: usize,
}

impl Place {
    fn inside(self) -> Self {
        let Self { x, width, depth } = self;
        Self { x: x + LEFT, width: width - LEFT - RIGHT, depth: depth + 1 }
    }
}

struct Picture<'map> {
    map: &'map Map,
    shapes: String,
    /// Where the next thing begins.
    y: usize,
}

impl Picture<'_> {
    /// The processes of a box, then the boxes in it.
    fn members(&mut self, nest: &Nest, user: Option<&str>, around: Place) {
        for process in &nest.processes {
            self.process(process, around.inside());
        }
        for inner in &nest.inner {
            self.nest(inner, user, around.inside());
        }
    }

    fn nest(&mut self, nest: &Nest, user: Option<&str>, place: Place) {
        self.y += GAP;
        let top = self.y;
        for head in words::heads(nest, user, &self.map.relations) {
            self.text(place, &head.kind, true);
            self.text(place, &head.name, false);
            self.text(place, &head.meaning, false);
        }
        if place.depth == 1 {
            self.texts(place, words::shared_here(nest, &self.map.host));
        }
        self.members(nest, words::own_user(nest, user), place);
        let holds = |kind| nest.namespaces.iter().any(|name| name.starts_with(kind));
        let line = match () {
            () if holds("pid:") => "stroke-width=\"3\"",
            () if holds("user:") => "stroke-dasharray=\"7 4\"",
            () => "stroke-width=\"1\"",
        };
        self.frame(place, top, line);
    }

    fn process(&mut self, process: &Process, place: Place) {
        self.y += GAP;
        let top = self.y;
        self.text(place, &words::name(process), true);
        self.text(place, &words::pids(process), false);
        self.text(place, &words::uids(process), false);
        self.frame(place, top, "fill-opacity=\".1\"");
    }

    /// Lines of text in a box.
    fn text(&mut self, place: Place, text: &str, is_bold: bool) {
        let Place { x, width, .. } = place.inside();
        let weight = if is_bold { " font-weight=\"bold\"" } else { "" };
        for line in wrap("", text, width / LETTER).lines() {
            self.y += LINE;
            let (y, line) = (self.y, escape(line));
            // A String takes everything.
            let _ = writeln!(self.shapes, "<text x=\"{x}\" y=\"{y}\"{weight}>{line}</text>");
        }
    }

    fn texts(&mut self, place: Place, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.text(place, &text, false));
    }

    /// The line around all that was drawn from `top` on.
    fn frame(&mut self, place: Place, top: usize, line: &str) {
        self.y += GAP;
        let Place { x, width, .. } = place;
        let height = self.y - top;
        let fill = if line.starts_with("fill") { "" } else { "fill=\"none\" " };
        let _ = writeln!(
            self.shapes,
            "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"6\" \
             {fill}stroke=\"currentColor\" {line}/>"
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
